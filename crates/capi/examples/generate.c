/* Continues a text: generate MODEL.gguf PROMPT [NAME=VALUE...]
 * Every parameter of transformers' generate() may be given: generate m.gguf "Once" do_sample=true
 * top_k=40 seed=7 */
#include <stdio.h>
#include <stdlib.h>

#include <gpt2.h>

static int32_t write_text(const gpt2_step *step, void *user_data) {
    (void)user_data;
    fwrite(step->text, 1, step->text_bytes, stdout);
    return fflush(stdout); /* a broken pipe ends the generation */
}

static int fail(void) {
    fprintf(stderr, "error: %s\n", gpt2_last_error());
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL.gguf PROMPT [NAME=VALUE...]\n", argv[0]);
        return 2;
    }
    gpt2_model *model = NULL;
    gpt2_session *session = NULL;
    if (gpt2_model_load(argv[1], NULL, &model) < 0) return fail();

    size_t n_prompt = 0;
    if (gpt2_tokenize(model, argv[2], GPT2_NUL_TERMINATED, 0, NULL, 0, &n_prompt) < 0)
        return fail();
    uint32_t *prompt = malloc((n_prompt + 1) * sizeof *prompt);
    if (prompt == NULL) return 1;
    if (gpt2_tokenize(model, argv[2], GPT2_NUL_TERMINATED, 0, prompt, n_prompt, &n_prompt) < 0)
        return fail();

    gpt2_generate_options options;
    gpt2_generate_options_init(&options, sizeof options);
    options.parameters = (const char *const *)(argv + 3);
    options.n_parameters = (size_t)(argc - 3);

    int failed = gpt2_session_new(model, NULL, &session) < 0 ||
                 gpt2_generate(session, prompt, n_prompt, &options, write_text, NULL, NULL) < 0;
    if (failed)
        fail();
    else
        putchar('\n');

    free(prompt);
    gpt2_session_free(session);
    gpt2_model_free(model);
    return failed;
}
