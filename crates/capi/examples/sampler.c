/* Decoding by hand, with a rule of one's own: sampler MODEL.gguf PROMPT N [LETTER]
 * Writes N tokens, the best each time, none of which has LETTER in it (a lipogram; 'e' unless
 * given). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gpt2.h>

struct rule {
    const unsigned char *forbidden; /* one a token of the vocabulary */
};

static void forbid(float *scores, size_t n_scores, const uint32_t *tokens, size_t n_tokens,
                   void *user_data) {
    const struct rule *rule = user_data;
    (void)tokens;
    (void)n_tokens;
    for (size_t token = 0; token < n_scores; token++) {
        if (rule->forbidden[token]) scores[token] = -INFINITY;
    }
}

static void *allocate(size_t bytes) {
    void *memory = calloc(1, bytes ? bytes : 1);
    if (memory == NULL) {
        fprintf(stderr, "error: not enough memory\n");
        exit(1);
    }
    return memory;
}

static void check(gpt2_status status) {
    if (status < 0) {
        fprintf(stderr, "error: %s\n", gpt2_last_error());
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: %s MODEL.gguf PROMPT N [LETTER]\n", argv[0]);
        return 2;
    }
    char letter = argc > 4 ? argv[4][0] : 'e';
    gpt2_model *model;
    gpt2_session *session;
    gpt2_sampler *sampler;
    gpt2_model_info info = {.size = sizeof info};
    check(gpt2_model_load(argv[1], NULL, &model));
    check(gpt2_model_get_info(model, &info));
    check(gpt2_session_new(model, NULL, &session));

    size_t n_prompt;
    check(gpt2_tokenize(model, argv[2], GPT2_NUL_TERMINATED, 0, NULL, 0, &n_prompt));
    uint32_t *prompt = allocate(n_prompt * sizeof *prompt);
    check(gpt2_tokenize(model, argv[2], GPT2_NUL_TERMINATED, 0, prompt, n_prompt, &n_prompt));

    unsigned char *forbidden = allocate(info.vocabulary);
    for (uint32_t token = 0; token < info.vocabulary; token++) {
        uint8_t bytes[512];
        size_t length;
        check(gpt2_token_bytes(model, token, bytes, sizeof bytes, &length));
        forbidden[token] = memchr(bytes, letter, length) != NULL;
    }
    struct rule rule = {forbidden};
    check(gpt2_sampler_new(model, NULL, prompt, n_prompt, &sampler));
    check(gpt2_sampler_add(sampler, forbid, &rule));

    float *logits = allocate(info.vocabulary * sizeof *logits);
    check(gpt2_prefill(session, 0, prompt, n_prompt, logits, info.vocabulary, NULL));
    for (int n = atoi(argv[3]); n > 0; n--) {
        uint32_t token;
        int32_t is_end;
        uint8_t bytes[512];
        size_t length;
        check(gpt2_sampler_choose(sampler, logits, info.vocabulary, &token));
        check(gpt2_token_is_end(model, token, &is_end));
        if (is_end) break;
        check(gpt2_token_bytes(model, token, bytes, sizeof bytes, &length));
        fwrite(bytes, 1, length, stdout);
        if (n > 1) check(gpt2_decode(session, 0, token, logits, info.vocabulary, NULL));
    }
    putchar('\n');
    free(logits);
    free(forbidden);
    free(prompt);
    gpt2_sampler_free(sampler);
    gpt2_session_free(session);
    gpt2_model_free(model);
    return 0;
}
