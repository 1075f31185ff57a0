/* Sessions and samplers that are freed while a call is at work in them: freeing MODEL.gguf
 * From another thread, from a callback of their own, and from callbacks of each other. */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "check.h"

enum { ROUNDS = 8, MOST_TOKENS = 400 };

static gpt2_model *model;
static uint32_t *prompt;
static size_t n_prompt;

static gpt2_session *start(void) {
    gpt2_session_options options;
    OK(gpt2_session_options_init(&options, sizeof options));
    options.threads = 1;
    gpt2_session *session;
    OK(gpt2_session_new(model, &options, &session));
    return session;
}

struct call {
    gpt2_session *session;
    gpt2_session *to_free; /* in the callback */
    atomic_int steps;
    atomic_int freed;
    atomic_int late;
    int64_t most; /* tokens; 0: many */
    int32_t reason;
};

static int32_t step(const gpt2_step *step, void *user_data) {
    struct call *call = user_data;
    (void)step;
    if (atomic_load(&call->freed)) atomic_fetch_add(&call->late, 1);
    atomic_fetch_add(&call->steps, 1);
    if (call->to_free != NULL) {
        gpt2_session *session = call->to_free;
        call->to_free = NULL;
        OK(gpt2_session_free(session));
        FAILS(GPT2_ERROR_HANDLE, "gpt2_session", gpt2_session_free(session));
    }
    return 0;
}

static void *generate(void *argument) {
    struct call *call = argument;
    gpt2_generate_options options;
    OK(gpt2_generate_options_init(&options, sizeof options));
    options.max_new_tokens = call->most > 0 ? call->most : MOST_TOKENS;
    options.ignore_eos = 1;
    gpt2_generation *generation;
    gpt2_continuation continuation = {.size = sizeof continuation};
    OK(gpt2_generate(call->session, prompt, n_prompt, &options, step, call, &generation));
    CHECK(gpt2_generation_count(generation) == 1);
    OK(gpt2_generation_get(generation, 0, &continuation));
    call->reason = continuation.finish_reason;
    OK(gpt2_generation_free(generation));
    return NULL;
}

static void until_at_work(struct call *call) {
    while (atomic_load(&call->steps) == 0) usleep(100);
}

static void from_another_thread(void) {
    for (int round = 0; round < ROUNDS; round++) {
        struct call call = {.session = start()};
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, generate, &call) == 0);
        until_at_work(&call);
        OK(gpt2_session_free(call.session));
        atomic_store(&call.freed, 1);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(atomic_load(&call.late) == 0);
        CHECK(call.reason == GPT2_FINISH_STOPPED);
    }
}

static void from_its_own_callback(void) {
    struct call call = {.session = start()};
    call.to_free = call.session;
    generate(&call);
    CHECK(call.reason == GPT2_FINISH_STOPPED && call.to_free == NULL);
}

static void from_callbacks_of_each_other(void) {
    for (int round = 0; round < ROUNDS; round++) {
        struct call first = {.session = start()}, second = {.session = start()};
        first.to_free = second.session;
        first.most = 4;
        generate(&first);
        CHECK(first.reason == GPT2_FINISH_LENGTH);
        FAILS(GPT2_ERROR_HANDLE, "gpt2_session", gpt2_session_free(second.session));
        OK(gpt2_session_free(first.session));
    }
    for (int round = 0; round < ROUNDS; round++) {
        struct call calls[2] = {{.session = start()}, {.session = start()}};
        pthread_t threads[2];
        for (int i = 0; i < 2; i++)
            CHECK(pthread_create(&threads[i], NULL, generate, &calls[i]) == 0);
        for (int i = 0; i < 2; i++) until_at_work(&calls[i]);
        /* Each frees the other at its next token. */
        for (int i = 0; i < 2; i++) calls[i].to_free = calls[1 - i].session;
        for (int i = 0; i < 2; i++) CHECK(pthread_join(threads[i], NULL) == 0);
        for (int i = 0; i < 2; i++) gpt2_session_free(calls[i].session);
    }
}

struct choice {
    gpt2_sampler *sampler;
    atomic_int at_work;
    atomic_int freed;
    int from_callback;
};

static void slow(float *scores, size_t n_scores, const uint32_t *tokens, size_t n_tokens,
                 void *user_data) {
    struct choice *choice = user_data;
    (void)tokens;
    (void)n_tokens;
    CHECK(n_scores == 4096 && scores != NULL);
    if (choice->from_callback) {
        OK(gpt2_sampler_free(choice->sampler));
        return;
    }
    atomic_store(&choice->at_work, 1);
    usleep(20000);
    CHECK(!atomic_load(&choice->freed));
}

static void *choose(void *argument) {
    struct choice *choice = argument;
    float *logits = calloc(4096, sizeof *logits);
    uint32_t token;
    OK(gpt2_sampler_choose(choice->sampler, logits, 4096, &token));
    free(logits);
    return NULL;
}

static void samplers(void) {
    struct choice choice = {.from_callback = 0};
    OK(gpt2_sampler_new(model, NULL, NULL, 0, &choice.sampler));
    OK(gpt2_sampler_add(choice.sampler, slow, &choice));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, choose, &choice) == 0);
    while (!atomic_load(&choice.at_work)) usleep(100);
    OK(gpt2_sampler_free(choice.sampler));
    atomic_store(&choice.freed, 1);
    CHECK(pthread_join(thread, NULL) == 0);
    choice = (struct choice){.from_callback = 1};
    OK(gpt2_sampler_new(model, NULL, NULL, 0, &choice.sampler));
    OK(gpt2_sampler_add(choice.sampler, slow, &choice));
    choose(&choice);
    FAILS(GPT2_ERROR_HANDLE, "gpt2_sampler", gpt2_sampler_free(choice.sampler));
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    alarm(300);
    OK(gpt2_model_load(argv[1], NULL, &model));
    prompt = tokens_of(model, "It is a truth universally acknowledged, that", &n_prompt);
    from_another_thread();
    from_its_own_callback();
    from_callbacks_of_each_other();
    samplers();
    OK(gpt2_model_free(model));
    free(prompt);
    puts("freed while at work");
    return 0;
}
