/* What a child made by fork() does with the handles of its parent: forks MODEL.gguf [TOKENS]
 * TOKENS of each text may be fewer where computing is slow. With one thread a session, with two,
 * and while another thread generates. Nothing hangs: a child is killed by its alarm. */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { MOST_TOKENS = 12, PATIENCE = 120 };

static gpt2_model *model;
static uint32_t *prompt;
static size_t n_prompt, n_tokens = MOST_TOKENS;
static size_t threads;

static gpt2_session *start(void) {
    gpt2_session_options options;
    OK(gpt2_session_options_init(&options, sizeof options));
    options.threads = threads;
    options.context = 128;
    gpt2_session *session;
    OK(gpt2_session_new(model, &options, &session));
    return session;
}

static void generate(gpt2_session *session, uint32_t *tokens, gpt2_token_callback callback,
                     void *user_data) {
    gpt2_generate_options options;
    OK(gpt2_generate_options_init(&options, sizeof options));
    options.max_new_tokens = (int64_t)n_tokens;
    options.ignore_eos = 1;
    gpt2_generation *generation;
    gpt2_continuation continuation = {.size = sizeof continuation};
    OK(gpt2_generate(session, prompt, n_prompt, &options, callback, user_data, &generation));
    OK(gpt2_generation_get(generation, 0, &continuation));
    CHECK(continuation.n_tokens == n_tokens);
    memcpy(tokens, continuation.tokens, continuation.n_tokens * sizeof *tokens);
    OK(gpt2_generation_free(generation));
}

/* Runs `work` in a child and waits for it; the parent's memory is as it was. */
static void in_child(void (*work)(void *), void *argument) {
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(PATIENCE);
        work(argument);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status)) fprintf(stderr, "the child got signal %d\n", WTERMSIG(status));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

struct shared {
    gpt2_session *session;
    gpt2_sampler *sampler;
    uint32_t expected[MOST_TOKENS];
};

static void nothing(void *argument) { (void)argument; }

static void frees(void *argument) {
    struct shared *shared = argument;
    OK(gpt2_model_free(model));
    OK(gpt2_session_free(shared->session));
    OK(gpt2_sampler_free(shared->sampler));
    FAILS(GPT2_ERROR_HANDLE, "gpt2_session", gpt2_session_free(shared->session));
}

static void uses(void *argument) {
    struct shared *shared = argument;
    uint32_t tokens[MOST_TOKENS];
    OK(gpt2_cache_clear(shared->session));
    generate(shared->session, tokens, NULL, NULL);
    CHECK(memcmp(tokens, shared->expected, n_tokens * sizeof *tokens) == 0);
    gpt2_session *other = start();
    generate(other, tokens, NULL, NULL);
    CHECK(memcmp(tokens, shared->expected, n_tokens * sizeof *tokens) == 0);
    OK(gpt2_session_free(other));
    float *logits = calloc(4096, sizeof *logits);
    uint32_t token;
    logits[7] = 1;
    OK(gpt2_sampler_choose(shared->sampler, logits, 4096, &token));
    CHECK(token == 7);
    free(logits);
    frees(argument);
}

static void uses_in_a_grandchild(void *argument) {
    uint32_t tokens[MOST_TOKENS];
    struct shared *shared = argument;
    in_child(uses, argument);
    generate(shared->session, tokens, NULL, NULL);
    in_child(uses, argument);
    frees(argument);
}

static void execs(void *argument) {
    (void)argument;
    execl("/bin/sh", "sh", "-c", "exit 0", (char *)NULL);
    _exit(9);
}

/* A session of its own, at work while the process forks. */
struct worker {
    gpt2_session *session;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int at_work;
    int go_on;
};

static int32_t wait_in_callback(const gpt2_step *step, void *user_data) {
    struct worker *worker = user_data;
    if (step->finished) return 0;
    pthread_mutex_lock(&worker->lock);
    worker->at_work = 1;
    pthread_cond_signal(&worker->changed);
    while (!worker->go_on) pthread_cond_wait(&worker->changed, &worker->lock);
    pthread_mutex_unlock(&worker->lock);
    return 0;
}

static void *work(void *argument) {
    struct worker *worker = argument;
    uint32_t tokens[MOST_TOKENS];
    generate(worker->session, tokens, wait_in_callback, worker);
    return NULL;
}

static void uses_beside(void *argument) {
    struct worker *worker = ((void **)argument)[0];
    size_t length;
    FAILS(GPT2_ERROR_BUSY, "forked", gpt2_cache_length(worker->session, 0, &length));
    FAILS(GPT2_ERROR_BUSY, "forked", gpt2_prefill(worker->session, 0, prompt, 1, NULL, 0, NULL));
    OK(gpt2_session_stop(worker->session, 1));
    OK(gpt2_session_free(worker->session));
    FAILS(GPT2_ERROR_HANDLE, "gpt2_session", gpt2_session_free(worker->session));
    uses(((void **)argument)[1]);
}

/* What generates without a pause while the process forks again and again. */
struct runner {
    gpt2_session *session;
    volatile int stop;
};

static void *run(void *argument) {
    struct runner *runner = argument;
    uint32_t tokens[MOST_TOKENS];
    while (!runner->stop) {
        OK(gpt2_cache_clear(runner->session));
        generate(runner->session, tokens, NULL, NULL);
        gpt2_session *other = start();
        OK(gpt2_session_free(other));
    }
    return NULL;
}

static void uses_beside_a_runner(void *argument) {
    struct runner *runner = ((void **)argument)[0];
    size_t length;
    gpt2_status status = gpt2_cache_length(runner->session, 0, &length);
    CHECK(status == GPT2_OK || status == GPT2_ERROR_BUSY);
    OK(gpt2_session_free(runner->session));
    uses(((void **)argument)[1]);
}

/* Forks within a callback: both processes go on with the generation. */
static int32_t fork_in_callback(const gpt2_step *step, void *user_data) {
    pid_t *child = user_data;
    if (*child == -1 && !step->finished) {
        *child = fork();
        CHECK(*child >= 0);
        if (*child == 0) alarm(PATIENCE);
    }
    return 0;
}

static void in_callback(struct shared *shared) {
    uint32_t tokens[MOST_TOKENS];
    pid_t child = -1;
    OK(gpt2_cache_clear(shared->session));
    generate(shared->session, tokens, fork_in_callback, &child);
    CHECK(memcmp(tokens, shared->expected, n_tokens * sizeof *tokens) == 0);
    if (child == 0) {
        frees(shared);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void log_line(int32_t level, const char *message, void *user_data) {
    (void)level;
    (void)message;
    (void)user_data;
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 3) return 2;
    if (argc == 3) n_tokens = (size_t)atoi(argv[2]);
    CHECK(n_tokens >= 1 && n_tokens <= MOST_TOKENS);
    OK(gpt2_model_load(argv[1], NULL, &model));
    prompt = tokens_of(model, "It is a truth universally acknowledged, that", &n_prompt);
    OK(gpt2_set_log_callback(GPT2_LOG_DEBUG, log_line, NULL));
    for (threads = 1; threads <= 2; threads++) {
        struct shared shared = {.session = start()};
        OK(gpt2_sampler_new(model, NULL, prompt, n_prompt, &shared.sampler));
        in_child(frees, &shared);
        generate(shared.session, shared.expected, NULL, NULL);
        in_child(nothing, NULL);
        in_child(frees, &shared);
        in_child(uses, &shared);
        in_child(uses_in_a_grandchild, &shared);
        in_child(execs, NULL);
        in_callback(&shared);

        struct worker worker = {.session = start()};
        pthread_mutex_init(&worker.lock, NULL);
        pthread_cond_init(&worker.changed, NULL);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, work, &worker) == 0);
        pthread_mutex_lock(&worker.lock);
        while (!worker.at_work) pthread_cond_wait(&worker.changed, &worker.lock);
        pthread_mutex_unlock(&worker.lock);
        void *both[] = {&worker, &shared};
        in_child(uses_beside, both);
        pthread_mutex_lock(&worker.lock);
        worker.go_on = 1;
        pthread_cond_signal(&worker.changed);
        pthread_mutex_unlock(&worker.lock);
        CHECK(pthread_join(thread, NULL) == 0);
        OK(gpt2_session_free(worker.session));

        struct runner runner = {.session = start()};
        CHECK(pthread_create(&thread, NULL, run, &runner) == 0);
        void *pair[] = {&runner, &shared};
        for (int i = 0; i < 4; i++) in_child(uses_beside_a_runner, pair);
        runner.stop = 1;
        CHECK(pthread_join(thread, NULL) == 0);
        OK(gpt2_session_free(runner.session));

        /* And the parent goes on. */
        uint32_t tokens[MOST_TOKENS];
        OK(gpt2_cache_clear(shared.session));
        generate(shared.session, tokens, NULL, NULL);
        CHECK(memcmp(tokens, shared.expected, n_tokens * sizeof *tokens) == 0);
        frees(&shared);
        OK(gpt2_model_load(argv[1], NULL, &model));
    }
    OK(gpt2_model_free(model));
    free(prompt);
    puts("children use and free what their parent made");
    return 0;
}
