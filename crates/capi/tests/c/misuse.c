/* Every function, given what it must refuse: misuse MODEL.gguf FOLDER [invariant]
 * With a word more where the model's matrices are computed by the library's own kernels. Handles
 * that are none, were freed or are of another kind; NULL where something is needed; sizes of
 * structures that no version has, fields that no version knows, reserved fields; no tokens. What is
 * refused changes nothing. */
#include "check.h"

static const char *file;
static char path[4096];
static gpt2_model *model;
static gpt2_session *session;
static gpt2_sampler *sampler;
static gpt2_generation *generation;
static gpt2_output *output;
static gpt2_results *results;
static gpt2_scores *scores;
static const uint32_t tokens[] = {5, 6, 7};
static uint32_t ids[8];
static float values[8];
static char text[8];
static uint8_t bytes[8];
static size_t length, shape[3];
static int32_t flag;

/* A call, its text and its result. */
struct call {
    const char *text;
    gpt2_status status;
};
#define CALL(call) {#call, call}

static void all(gpt2_status expected, const struct call *calls, size_t n_calls) {
    for (size_t i = 0; i < n_calls; i++) {
        if (calls[i].status != expected) {
            fprintf(stderr, "%s: expected %d, found %d\n", calls[i].text, expected,
                    calls[i].status);
            exit(1);
        }
    }
}
/* That calls all end with a code. */
#define ALL(expected, ...)                                                                         \
    do {                                                                                           \
        const struct call calls_[] = {__VA_ARGS__};                                                \
        all(expected, calls_, sizeof calls_ / sizeof calls_[0]);                                   \
    } while (0)

static void processor(float *scores, size_t n_scores, const uint32_t *seen, size_t n_seen,
                      void *user_data) {
    (void)scores;
    (void)n_scores;
    (void)seen;
    (void)n_seen;
    (void)user_data;
}

/* Functions of a model, given another handle. */
static void of_model(gpt2_model *bad) {
    gpt2_model_info info = {.size = sizeof info};
    gpt2_session *new_session = session;
    gpt2_sampler *new_sampler = sampler;
    ALL(GPT2_ERROR_HANDLE, CALL(gpt2_model_get_info(bad, &info)),
        CALL(gpt2_model_label(bad, 0, text, 8, &length)),
        CALL(gpt2_tokenize(bad, "a", 1, 0, ids, 8, &length)),
        CALL(gpt2_detokenize(bad, tokens, 1, 0, text, 8, &length)),
        CALL(gpt2_token_bytes(bad, 5, bytes, 8, &length)), CALL(gpt2_token_is_end(bad, 5, &flag)),
        CALL(gpt2_find_token(bad, "a", ids)), CALL(gpt2_session_new(bad, NULL, &new_session)),
        CALL(gpt2_sampler_new(bad, NULL, tokens, 1, &new_sampler)));
    CHECK(new_session == NULL && new_sampler == NULL);
    if (bad != NULL) ALL(GPT2_ERROR_HANDLE, CALL(gpt2_model_free(bad)));
}

/* Functions of a session. */
static void of_session(gpt2_session *bad) {
    gpt2_batch batch;
    gpt2_memory memory = {.size = sizeof memory};
    gpt2_output *new_output = output;
    gpt2_generation *new_generation = generation;
    gpt2_results *made = results;
    gpt2_scores *scored = (gpt2_scores *)path;
    gpt2_perplexity_result perplexity = {.size = sizeof perplexity};
    const char *choices[] = {"a", "b"};
    OK(gpt2_batch_init(&batch, sizeof batch));
    batch.tokens = tokens;
    batch.n_tokens = 1;
    ALL(GPT2_ERROR_HANDLE, CALL(gpt2_session_stop(bad, 0)),
        CALL(gpt2_session_get_memory(bad, &memory)),
        CALL(gpt2_prefill(bad, 0, tokens, 1, NULL, 0, NULL)),
        CALL(gpt2_decode(bad, 0, 5, NULL, 0, NULL)), CALL(gpt2_run(bad, &batch, &new_output)),
        CALL(gpt2_cache_length(bad, 0, &length)), CALL(gpt2_cache_tokens(bad, 0, ids, 8, &length)),
        CALL(gpt2_cache_truncate(bad, 0, 0)), CALL(gpt2_cache_keep(bad, 0, tokens, 1, NULL)),
        CALL(gpt2_cache_fork(bad, 0, 1)), CALL(gpt2_cache_clear(bad)),
        CALL(gpt2_cache_save(bad, 0, path, 1)), CALL(gpt2_cache_restore(bad, 0, path, NULL)),
        CALL(gpt2_generate(bad, tokens, 1, NULL, NULL, NULL, &new_generation)),
        CALL(gpt2_classify(bad, "a", 1, GPT2_SCORES_DEFAULT, &made)),
        CALL(gpt2_tag(bad, "a", 1, GPT2_TAG_TOKENS, &made)),
        CALL(gpt2_answer(bad, "a", 1, "b", 1, 0, 0, &made)),
        CALL(gpt2_choose(bad, NULL, choices, 2, &made)),
        CALL(gpt2_perplexity(bad, "a", 1, 0, 0, &perplexity)),
        CALL(gpt2_score(bad, choices, 2, NULL, &scored)),
        CALL(gpt2_score_tokens(bad, tokens, 3, 0, NULL, &scored)),
        CALL(gpt2_embed(bad, "a", 1, GPT2_POOLING_MEAN, 1, values, 8, &length)));
    CHECK(new_output == NULL && new_generation == NULL && made == NULL);
    CHECK(scored == NULL);
    if (bad != NULL) ALL(GPT2_ERROR_HANDLE, CALL(gpt2_session_free(bad)));
}

/* Functions of the other handles. */
static void of_others(void *bad) {
    gpt2_continuation continuation = {.size = sizeof continuation};
    gpt2_timings timings = {.size = sizeof timings};
    gpt2_result result = {.size = sizeof result};
    gpt2_text_score of_text = {.size = sizeof of_text};
    gpt2_token_score of_token = {.size = sizeof of_token};
    gpt2_word_score of_word = {.size = sizeof of_word};
    ALL(GPT2_ERROR_HANDLE, CALL(gpt2_scores_get(bad, 0, &of_text)),
        CALL(gpt2_scores_token(bad, 0, 0, &of_token)),
        CALL(gpt2_scores_top(bad, 0, 0, 0, &of_token)),
        CALL(gpt2_scores_word(bad, 0, 0, &of_word)),
        CALL(gpt2_generation_logprob(bad, 0, 0, &of_token)),
        CALL(gpt2_generation_top(bad, 0, 0, 0, &of_token)));
    CHECK(gpt2_scores_count(bad) == 0);
    if (bad != NULL) ALL(GPT2_ERROR_HANDLE, CALL(gpt2_scores_free(bad)));
    ALL(GPT2_ERROR_HANDLE, CALL(gpt2_output_rows(bad, &length)),
        CALL(gpt2_output_shape(bad, GPT2_LOGITS, shape, 3, &length)),
        CALL(gpt2_output_read(bad, GPT2_LOGITS, 0, values, 8, &length)),
        CALL(gpt2_generation_get(bad, 0, &continuation)),
        CALL(gpt2_generation_scores(bad, 0, 0, 0, values, 8, &length)),
        CALL(gpt2_generation_get_timings(bad, &timings)),
        CALL(gpt2_sampler_add(bad, processor, NULL)),
        CALL(gpt2_sampler_choose(bad, values, 8, ids)), CALL(gpt2_sampler_process(bad, values, 8)),
        CALL(gpt2_sampler_accept(bad, 5)), CALL(gpt2_results_get(bad, 0, &result)));
    CHECK(gpt2_generation_count(bad) == 0 && gpt2_results_count(bad) == 0);
    if (bad != NULL)
        ALL(GPT2_ERROR_HANDLE, CALL(gpt2_output_free(bad)), CALL(gpt2_generation_free(bad)),
            CALL(gpt2_sampler_free(bad)), CALL(gpt2_results_free(bad)));
}

static void handles(void) {
    gpt2_model *freed_model;
    gpt2_session *freed_session;
    OK(gpt2_model_load(file, NULL, &freed_model));
    OK(gpt2_session_new(freed_model, NULL, &freed_session));
    OK(gpt2_model_free(freed_model));
    OK(gpt2_session_free(freed_session));
    /* NULL, freed, of another kind, a real address, a number that will never be. */
    void *bad[] = {NULL, freed_model, freed_session, &bad, (void *)~(uintptr_t)0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        of_model(bad[i]);
        of_session(bad[i]);
        of_others(bad[i]);
    }
    of_model((gpt2_model *)session);
    of_session((gpt2_session *)model);
    of_others(model);
    OK(gpt2_model_free(NULL));
    OK(gpt2_session_free(NULL));
    OK(gpt2_output_free(NULL));
    OK(gpt2_generation_free(NULL));
    OK(gpt2_sampler_free(NULL));
    OK(gpt2_results_free(NULL));
    OK(gpt2_scores_free(NULL));
}

/* NULL where something is read or written. */
static void nulls(void) {
    gpt2_model *new_model;
    gpt2_output *new_output;
    gpt2_sampler *new_sampler;
    gpt2_results *made;
    gpt2_batch batch;
    OK(gpt2_batch_init(&batch, sizeof batch));
    batch.n_tokens = 3;
    const char *choices[] = {"a", NULL};
    gpt2_generate_options options;
    OK(gpt2_generate_options_init(&options, sizeof options));
    const char *parameters[] = {NULL};
    options.parameters = parameters;
    options.n_parameters = 1;
    ALL(GPT2_ERROR_ARGUMENT, CALL(gpt2_model_options_init(NULL, 8)),
        CALL(gpt2_session_options_init(NULL, 8)), CALL(gpt2_generate_options_init(NULL, 8)),
        CALL(gpt2_convert_options_init(NULL, 8)), CALL(gpt2_batch_init(NULL, 8)),
        CALL(gpt2_score_options_init(NULL, 8)), CALL(gpt2_score(session, NULL, 1, NULL, &scores)),
        CALL(gpt2_score_tokens(session, NULL, 1, 0, NULL, &scores)),
        CALL(gpt2_score_tokens(session, tokens, 3, 0, NULL, NULL)),
        CALL(gpt2_model_load(NULL, NULL, &new_model)), CALL(gpt2_model_load(file, NULL, NULL)),
        CALL(gpt2_model_load_memory(NULL, 8, NULL, NULL, NULL, &new_model)),
        CALL(gpt2_model_get_info(model, NULL)),
        CALL(gpt2_tokenize(model, NULL, 1, 0, ids, 8, NULL)),
        CALL(gpt2_tokenize(model, "a", 1, 0, NULL, 8, NULL)),
        CALL(gpt2_detokenize(model, NULL, 1, 0, text, 8, NULL)),
        CALL(gpt2_token_is_end(model, 5, NULL)), CALL(gpt2_find_token(model, NULL, ids)),
        CALL(gpt2_find_token(model, "a", NULL)), CALL(gpt2_session_new(model, NULL, NULL)),
        CALL(gpt2_session_get_memory(session, NULL)),
        CALL(gpt2_prefill(session, 0, NULL, 1, NULL, 0, NULL)),
        CALL(gpt2_prefill(session, 0, tokens, 1, NULL, 8, NULL)),
        CALL(gpt2_run(session, NULL, &new_output)), CALL(gpt2_run(session, &batch, &new_output)),
        CALL(gpt2_run(session, &batch, NULL)), CALL(gpt2_output_rows(output, NULL)),
        CALL(gpt2_cache_length(session, 0, NULL)), CALL(gpt2_cache_keep(session, 0, NULL, 1, NULL)),
        CALL(gpt2_cache_save(session, 0, NULL, 1)),
        CALL(gpt2_cache_restore(session, 0, NULL, NULL)),
        CALL(gpt2_generate(session, NULL, 1, NULL, NULL, NULL, NULL)),
        CALL(gpt2_generate(session, tokens, 1, &options, NULL, NULL, NULL)),
        CALL(gpt2_generation_get(generation, 0, NULL)),
        CALL(gpt2_generation_get_timings(generation, NULL)),
        CALL(gpt2_sampler_new(model, NULL, NULL, 1, &new_sampler)),
        CALL(gpt2_sampler_new(model, NULL, tokens, 1, NULL)),
        CALL(gpt2_sampler_add(sampler, NULL, NULL)),
        CALL(gpt2_sampler_choose(sampler, NULL, 4096, ids)),
        CALL(gpt2_sampler_process(sampler, NULL, 4096)),
        CALL(gpt2_embed(session, NULL, 1, 0, 0, NULL, 0, NULL)),
        CALL(gpt2_choose(session, NULL, choices, 2, &made)),
        CALL(gpt2_convert(NULL, path, NULL, NULL, NULL)),
        CALL(gpt2_convert(file, NULL, NULL, NULL, NULL)),
        CALL(gpt2_convert(file, path, NULL, NULL, NULL)),
        CALL(gpt2_set_log_callback(0, NULL, NULL)));
    OK(gpt2_set_log_callback(GPT2_LOG_ERROR, NULL, NULL));
}

/* No tokens, no choices, no text. */
static void nothing(void) {
    gpt2_batch batch;
    gpt2_output *none;
    OK(gpt2_batch_init(&batch, sizeof batch));
    OK(gpt2_run(session, &batch, &none));
    OK(gpt2_output_rows(none, &length));
    CHECK(length == 0);
    OK(gpt2_output_read(none, GPT2_LOGITS, 0, NULL, 0, &length));
    CHECK(length == 0);
    OK(gpt2_output_free(none));
    gpt2_generation *no_generation = generation;
    ALL(GPT2_ERROR_ARGUMENT, CALL(gpt2_prefill(session, 0, tokens, 0, NULL, 0, NULL)),
        CALL(gpt2_generate(session, tokens, 0, NULL, NULL, NULL, &no_generation)),
        CALL(gpt2_generate(session, NULL, 0, NULL, NULL, NULL, &no_generation)));
    CHECK(no_generation == NULL);
    OK(gpt2_tokenize(model, "", 0, 0, ids, 8, &length));
    CHECK(length == 0);
    OK(gpt2_tokenize(model, NULL, 0, 0, ids, 8, &length));
    CHECK(length == 0);
    OK(gpt2_detokenize(model, NULL, 0, 0, text, 8, &length));
    CHECK(length == 0 && text[0] == 0);
    OK(gpt2_cache_keep(session, 0, NULL, 0, &length));
    CHECK(length == 0);
}

/* A structure in memory of its exact size, so that tools see what is read beyond it. */
static void *of_size(size_t claimed, size_t known, const void *value, size_t beyond) {
    size_t room = claimed > sizeof(size_t) ? claimed : sizeof(size_t);
    unsigned char *made = malloc(room);
    CHECK(made != NULL);
    memset(made, 0, room);
    memcpy(made, value, room < known ? room : known);
    memcpy(made, &claimed, sizeof claimed);
    if (beyond > 0) made[room - 1] = 1;
    return made;
}

/* Whether a call takes a structure of each size. */
#define SIZES(type, call)                                                                          \
    do {                                                                                           \
        type value_;                                                                               \
        OK(type##_init(&value_, sizeof value_));                                                   \
        for (size_t size_ = 0; size_ <= sizeof value_ + 16; size_++) {                             \
            for (size_t beyond_ = 0; beyond_ < 2; beyond_++) {                                     \
                if (beyond_ && size_ <= sizeof value_) continue;                                   \
                type *given = of_size(size_, sizeof value_, &value_, beyond_);                     \
                gpt2_status status_ = call;                                                        \
                CHECK(beyond_ ? status_ == GPT2_ERROR_UNSUPPORTED                                  \
                              : status_ == GPT2_OK || status_ == GPT2_ERROR_ARGUMENT);             \
                if (size_ < sizeof(size_t)) CHECK(status_ == GPT2_ERROR_ARGUMENT);                 \
                if (size_ >= sizeof value_ && !beyond_) CHECK(status_ == GPT2_OK);                 \
                if (size_ == sizeof value_ - 1) CHECK(status_ == GPT2_ERROR_ARGUMENT);             \
                free(given);                                                                       \
            }                                                                                      \
        }                                                                                          \
    } while (0)

static gpt2_status load(const gpt2_model_options *options) {
    gpt2_model *made;
    gpt2_status status = gpt2_model_load(file, options, &made);
    CHECK((status == GPT2_OK) == (made != NULL));
    OK(gpt2_model_free(made));
    return status;
}

static gpt2_status start(const gpt2_session_options *options) {
    gpt2_session *made;
    gpt2_status status = gpt2_session_new(model, options, &made);
    CHECK((status == GPT2_OK) == (made != NULL));
    OK(gpt2_session_free(made));
    return status;
}

static gpt2_status compute(const gpt2_batch *batch) {
    gpt2_output *made;
    gpt2_status status = gpt2_run(session, batch, &made);
    CHECK((status == GPT2_OK) == (made != NULL));
    OK(gpt2_output_free(made));
    OK(gpt2_cache_clear(session));
    return status;
}

static gpt2_status sample(const gpt2_generate_options *options) {
    gpt2_sampler *made;
    gpt2_status status = gpt2_sampler_new(model, options, tokens, 1, &made);
    CHECK((status == GPT2_OK) == (made != NULL));
    OK(gpt2_sampler_free(made));
    return status;
}

/* What is filled, of every size: only that is written. */
#define FILLS(type, call)                                                                          \
    do {                                                                                           \
        for (size_t size_ = 0; size_ <= sizeof(type) + 16; size_++) {                              \
            type zero_;                                                                            \
            memset(&zero_, 0, sizeof zero_);                                                       \
            type *filled = of_size(size_, sizeof zero_, &zero_, 0);                                \
            gpt2_status status_ = call;                                                            \
            CHECK(status_ == GPT2_OK || status_ == GPT2_ERROR_ARGUMENT);                           \
            if (size_ < sizeof(size_t)) CHECK(status_ == GPT2_ERROR_ARGUMENT);                     \
            if (size_ >= sizeof(type)) CHECK(status_ == GPT2_OK);                                  \
            CHECK(filled->size == size_);                                                          \
            free(filled);                                                                          \
        }                                                                                          \
    } while (0)

static void sizes(void) {
    SIZES(gpt2_model_options, load(given));
    SIZES(gpt2_session_options, start(given));
    SIZES(gpt2_batch, compute(given));
    SIZES(gpt2_generate_options, sample(given));
    FILLS(gpt2_model_info, gpt2_model_get_info(model, filled));
    FILLS(gpt2_memory, gpt2_session_get_memory(session, filled));
    FILLS(gpt2_continuation, gpt2_generation_get(generation, 0, filled));
    FILLS(gpt2_timings, gpt2_generation_get_timings(generation, filled));
}

static void reserved(void) {
    gpt2_model_options loading;
    OK(gpt2_model_options_init(&loading, sizeof loading));
    loading.reserved = 1;
    FAILS(GPT2_ERROR_ARGUMENT, "gpt2_model_options.reserved", load(&loading));
    gpt2_batch batch;
    OK(gpt2_batch_init(&batch, sizeof batch));
    batch.reserved = 1;
    FAILS(GPT2_ERROR_ARGUMENT, "gpt2_batch.reserved", compute(&batch));
    batch.reserved = 0;
    batch.reserved_2 = -1;
    FAILS(GPT2_ERROR_ARGUMENT, "gpt2_batch.reserved_2", compute(&batch));
    gpt2_convert_options converting;
    OK(gpt2_convert_options_init(&converting, sizeof converting));
    converting.file_type = "q8_0";
    converting.reserved = 1 << 30;
    FAILS(GPT2_ERROR_ARGUMENT, "gpt2_convert_options.reserved",
          gpt2_convert(file, path, &converting, NULL, NULL));
}

/* Places of a batch that are taken already, and sequences that are not there. */
static void places(void) {
    gpt2_batch batch;
    OK(gpt2_batch_init(&batch, sizeof batch));
    uint32_t same[] = {0, 1, 0}, later[] = {0, 1, 2};
    batch.tokens = tokens;
    batch.n_tokens = 3;
    batch.positions = same;
    FAILS(GPT2_ERROR_ARGUMENT, "position 0 of sequence 0", compute(&batch));
    batch.positions = later;
    gpt2_output *made;
    OK(gpt2_run(session, &batch, &made));
    OK(gpt2_output_free(made));
    FAILS(GPT2_ERROR_ARGUMENT, "cache already", gpt2_run(session, &batch, &made));
    CHECK(made == NULL);
    OK(gpt2_cache_length(session, 0, &length));
    CHECK(length == 3);
    OK(gpt2_cache_save(session, 0, path, 1));
    OK(gpt2_cache_restore(session, 0, path, &length));
    CHECK(length == 3);
    OK(gpt2_cache_clear(session));
    const char *needing[] = {"num_beams=4", "guidance_scale=1.5", "penalty_alpha=0.6"};
    const char *words[] = {"gpt2_session_options.sequences to 4",
                           "gpt2_session_options.sequences to 2",
                           "gpt2_session_options.sequences to 50"};
    gpt2_generate_options options;
    OK(gpt2_generate_options_init(&options, sizeof options));
    options.n_parameters = 1;
    for (int i = 0; i < 3; i++) {
        options.parameters = &needing[i];
        FAILS(GPT2_ERROR_ARGUMENT, words[i],
              gpt2_generate(session, tokens, 3, &options, NULL, NULL, NULL));
    }
    FAILS(GPT2_ERROR_ARGUMENT, "gpt2_session_options.sequences to 4",
          gpt2_prefill(session, 3, tokens, 1, NULL, 0, NULL));
    CHECK(gpt2_cache_truncate(session, UINT32_MAX, 0) == GPT2_ERROR_ARGUMENT);
}

static int32_t count(const gpt2_step *step, void *user_data) {
    CHECK(step->finished && step->finish_reason == GPT2_FINISH_STOPPED && step->text_bytes == 0);
    ++*(int *)user_data;
    return 0;
}

/* A generation that is stopped before its first token. */
static void stopped(void) {
    int ends = 0;
    gpt2_generation *made;
    gpt2_continuation continuation = {.size = sizeof continuation};
    gpt2_timings timings = {.size = sizeof timings};
    OK(gpt2_session_stop(session, 1));
    FAILS(GPT2_ERROR_STOPPED, "stopped", gpt2_decode(session, 0, 5, NULL, 0, NULL));
    OK(gpt2_generate(session, tokens, 3, NULL, count, &ends, &made));
    OK(gpt2_session_stop(session, 0));
    CHECK(ends == 1 && gpt2_generation_count(made) == 1);
    OK(gpt2_generation_get(made, 0, &continuation));
    CHECK(continuation.n_tokens == 0 && continuation.text_bytes == 0 &&
          strcmp(continuation.text, "") == 0);
    CHECK(continuation.finish_reason == GPT2_FINISH_STOPPED);
    OK(gpt2_generation_get_timings(made, &timings));
    CHECK(timings.decode_tokens == 0);
    OK(gpt2_generation_free(made));
    OK(gpt2_cache_length(session, 0, &length));
    CHECK(length == 0);
}

/* The bits of a token do not depend on what is computed with it, where that is asked for. */
static void invariant(void) {
    enum { N = 24 };
    uint32_t many[N];
    for (uint32_t i = 0; i < N; i++) many[i] = 100 + i;
    static float alone[4096], together[N * 4096];
    gpt2_batch batch;
    gpt2_output *made;
    OK(gpt2_batch_init(&batch, sizeof batch));
    batch.tokens = many;
    batch.n_tokens = N;
    batch.batch_invariant = 1;
    OK(gpt2_run(session, &batch, &made));
    OK(gpt2_output_read(made, GPT2_LOGITS, 0, together, N * 4096, &length));
    OK(gpt2_output_free(made));
    OK(gpt2_cache_clear(session));
    for (int i = 0; i < N; i++) {
        OK(gpt2_decode(session, 0, many[i], alone, 4096, NULL));
        CHECK(memcmp(alone, together + i * 4096, sizeof alone) == 0);
    }
    OK(gpt2_cache_clear(session));
}

int main(int argc, char **argv) {
    if (argc < 3 || argc > 4) return 2;
    file = argv[1];
    snprintf(path, sizeof path, "%s/misuse.cache", argv[2]);
    OK(gpt2_model_load(file, NULL, &model));
    gpt2_session_options options;
    OK(gpt2_session_options_init(&options, sizeof options));
    options.context = 64;
    options.threads = 1;
    OK(gpt2_session_new(model, &options, &session));
    OK(gpt2_sampler_new(model, NULL, tokens, 3, &sampler));
    gpt2_generate_options generating;
    OK(gpt2_generate_options_init(&generating, sizeof generating));
    generating.max_new_tokens = 2;
    OK(gpt2_generate(session, tokens, 3, &generating, NULL, NULL, &generation));
    OK(gpt2_cache_clear(session));
    gpt2_batch batch;
    OK(gpt2_batch_init(&batch, sizeof batch));
    batch.tokens = tokens;
    batch.n_tokens = 1;
    OK(gpt2_run(session, &batch, &output));
    OK(gpt2_cache_clear(session));
    handles();
    nulls();
    nothing();
    sizes();
    reserved();
    places();
    stopped();
    if (argc == 4) invariant();
    OK(gpt2_output_free(output));
    OK(gpt2_generation_free(generation));
    OK(gpt2_sampler_free(sampler));
    OK(gpt2_session_free(session));
    OK(gpt2_model_free(model));
    puts("refused as the header says");
    return 0;
}
