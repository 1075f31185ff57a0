/* Eight threads, each with sessions of its own of one model; they generate, save, convert and
 * misuse at once, while a ninth loads and frees models and a tenth stops one of them: threads
 * MODEL.gguf FOLDER [TOKENS] TOKENS of each text may be fewer where computing is slow. */
#include <pthread.h>

#include "check.h"

enum { THREADS = 8, ROUNDS = 2, MOST_TOKENS = 12 };

static gpt2_model *model;
static const char *file, *folder;
static uint32_t *prompt;
static size_t n_prompt, n_tokens = MOST_TOKENS;
static uint32_t expected[MOST_TOKENS];
static gpt2_session *shared;

static void log_line(int32_t level, const char *message, void *user_data) {
    (void)level;
    (void)user_data;
    CHECK(message[0] != 0);
}

static void generate(gpt2_session *session, uint32_t *tokens) {
    gpt2_generate_options options;
    OK(gpt2_generate_options_init(&options, sizeof options));
    options.max_new_tokens = (int64_t)n_tokens;
    gpt2_generation *generation;
    gpt2_continuation continuation = {.size = sizeof continuation};
    OK(gpt2_generate(session, prompt, n_prompt, &options, NULL, NULL, &generation));
    OK(gpt2_generation_get(generation, 0, &continuation));
    CHECK(continuation.n_tokens == n_tokens);
    memcpy(tokens, continuation.tokens, n_tokens * sizeof *tokens);
    OK(gpt2_generation_free(generation));
}

static gpt2_session *start(size_t computing) {
    gpt2_session_options options;
    OK(gpt2_session_options_init(&options, sizeof options));
    options.threads = computing;
    options.context = 64;
    gpt2_session *session;
    OK(gpt2_session_new(model, &options, &session));
    return session;
}

static void *work(void *number) {
    char cache[4096], message[64];
    snprintf(cache, sizeof cache, "%s/%d.cache", folder, *(int *)number);
    snprintf(message, sizeof message, "%s/none%d", folder, *(int *)number);
    for (int round = 0; round < ROUNDS; round++) {
        /* Threads of a session that wait for each other are costly when there are more than cores:
         * one has them. */
        gpt2_session *session = start(*(int *)number == 0 ? 2 : 1);
        uint32_t tokens[MOST_TOKENS];
        size_t length;
        /* Each thread has the text of its own failures. */
        CHECK(gpt2_cache_restore(session, 0, message, NULL) == GPT2_ERROR_IO);
        generate(session, tokens);
        CHECK(memcmp(tokens, expected, n_tokens * sizeof *tokens) == 0);
        OK(gpt2_cache_save(session, 0, cache, 1));
        OK(gpt2_cache_clear(session));
        OK(gpt2_cache_restore(session, 0, cache, &length));
        generate(session, tokens);
        CHECK(memcmp(tokens, expected, n_tokens * sizeof *tokens) == 0);
        CHECK(strstr(gpt2_last_error(), message) != NULL);
        /* One session for all threads: a second call is refused. */
        gpt2_status status = gpt2_decode(shared, 0, prompt[0], NULL, 0, NULL);
        CHECK(status == GPT2_OK || status == GPT2_ERROR_BUSY || status == GPT2_ERROR_CONTEXT_FULL ||
              status == GPT2_ERROR_STOPPED);
        OK(gpt2_session_free(session));
    }
    return NULL;
}

static void *load(void *unused) {
    (void)unused;
    for (int round = 0; round < ROUNDS; round++) {
        gpt2_model *other;
        gpt2_session *session;
        OK(gpt2_model_load(file, NULL, &other));
        OK(gpt2_session_new(other, NULL, &session));
        OK(gpt2_model_free(other));
        OK(gpt2_prefill(session, 0, prompt, n_prompt, NULL, 0, NULL));
        OK(gpt2_session_free(session));
        OK(gpt2_set_log_callback(GPT2_LOG_DEBUG, log_line, NULL));
    }
    return NULL;
}

static void *stop(void *unused) {
    (void)unused;
    for (int round = 0; round < 100; round++) OK(gpt2_session_stop(shared, round % 2));
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 3 || argc > 4) return 2;
    if (argc == 4) n_tokens = (size_t)atoi(argv[3]);
    CHECK(n_tokens >= 1 && n_tokens <= MOST_TOKENS);
    file = argv[1];
    folder = argv[2];
    OK(gpt2_model_load(file, NULL, &model));
    prompt = tokens_of(model, "It is a truth universally acknowledged, that", &n_prompt);
    shared = start(1);
    generate(shared, expected);

    pthread_t threads[THREADS + 2];
    int numbers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, work, &numbers[i]) == 0);
    }
    CHECK(pthread_create(&threads[THREADS], NULL, load, NULL) == 0);
    CHECK(pthread_create(&threads[THREADS + 1], NULL, stop, NULL) == 0);
    for (int i = 0; i < THREADS + 2; i++) CHECK(pthread_join(threads[i], NULL) == 0);

    OK(gpt2_set_log_callback(GPT2_LOG_DEBUG, NULL, NULL));
    OK(gpt2_session_free(shared));
    OK(gpt2_model_free(model));
    free(prompt);
    puts("the same from every thread");
    return 0;
}
