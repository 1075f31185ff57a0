/* Calls in random order with random arguments, from several threads: fuzz MODEL.gguf FOLDER
 * Handles are alive, freed, of another kind or no handles at all; each may be freed by one thread
 * while another uses it, and from callbacks. Memory that is passed is as long as it is said to be:
 * everything else is up to chance. FOLDER may be written to. By environment variables:
 *   GPT2_FUZZ_SECONDS  how long; default 5
 *   GPT2_FUZZ_SEED     where chance begins; default by the clock, and printed
 *   GPT2_FUZZ_THREADS  default 3; with 1 a seed gives the same calls again
 * Fails on a crash, a hang, an internal error, an error without a text, a handle that is made by a
 * call that fails, memory in use that is not released; leaks are for the tool it runs under. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fuzz_arguments.h"

enum { MOST_THREADS = 16, DEEPEST = 2, PATIENCE = 180 };

static unsigned char *contents;
static size_t n_contents;
static atomic_size_t taken, released, calls, refused;
static time_t end;

/* How deep in callbacks a thread is. */
static _Thread_local int depth;

static void ended(gpt2_status status) {
    atomic_fetch_add(&calls, 1);
    if (status == GPT2_OK) return;
    atomic_fetch_add(&refused, 1);
    CHECK(status < 0 && status > GPT2_ERROR_INTERNAL);
    CHECK(gpt2_last_error()[0] != 0);
}

static gpt2_status free_of(enum kind kind, void *old) {
    switch (kind) {
    case MODEL: return gpt2_model_free(old);
    case SESSION: return gpt2_session_free(old);
    case OUTPUT: return gpt2_output_free(old);
    case GENERATION: return gpt2_generation_free(old);
    case SAMPLER: return gpt2_sampler_free(old);
    case RESULTS: return gpt2_results_free(old);
    default: return gpt2_scores_free(old);
    }
}

/* Keeps what a call made, in place of another of its kind, which is freed. */
static void made(enum kind kind, gpt2_status status, void *made) {
    ended(status);
    CHECK((status == GPT2_OK) == (made != NULL));
    if (made == NULL) return;
    void *old = atomic_exchange(&handles[kind][below(SLOTS)], made);
    gpt2_status freed = free_of(kind, old);
    CHECK(freed == GPT2_OK || freed == GPT2_ERROR_HANDLE);
}

/* A call that makes a handle of a kind in `place`. */
#define MADE(kind, place, call)                                                                    \
    do {                                                                                           \
        gpt2_status status_ = call;                                                                \
        made(kind, status_, place);                                                                \
    } while (0)
static void any_call(void);

static int32_t callback(const gpt2_step *step, void *user_data) {
    CHECK(user_data == (void *)file && step->size == sizeof *step);
    CHECK(strlen(step->text) == step->text_bytes || step->text_bytes > 0);
    if (depth < DEEPEST && one_in(6)) {
        depth++;
        any_call();
        depth--;
    }
    return one_in(12);
}

static void process(float *scores, size_t n_scores, const uint32_t *seen, size_t n_seen,
                    void *user_data) {
    (void)user_data;
    CHECK(n_seen == 0 || seen != NULL);
    if (one_in(4)) scores[below(n_scores)] = one_in(5) ? NAN : -1e30f;
    if (depth < DEEPEST && one_in(6)) {
        depth++;
        any_call();
        depth--;
    }
}

static void log_line(int32_t level, const char *message, void *user_data) {
    (void)user_data;
    CHECK(level >= GPT2_LOG_ERROR && level <= GPT2_LOG_TRACE && message[0] != 0);
}

static void release(void *memory) {
    atomic_fetch_add(&released, 1);
    free(memory);
}

static int32_t progress(uint64_t written, uint64_t total, void *user_data) {
    (void)user_data;
    CHECK(written <= total);
    return written > total / 2;
}

/* Options of a generation; `chosen` has room for what they point at. */
static gpt2_generate_options *generating(struct padded *padded, const char *chosen[4]) {
    static const char *const known[] = {
        "num_beams=2", "num_beams=3", "guidance_scale=1.5", "penalty_alpha=0.6", "top_k=4",
        "num_return_sequences=2", "no_repeat_ngram_size=2", "output_scores=true",
        "output_logits=true", "stop= the", "stop=", "min_p=0.1", "typical_p=0.9", "top_k=0",
        "suppress_tokens=[1,2]", "suppress_tokens=[99999]", "max_length=7", "min_new_tokens=3",
        "early_stopping=never", "num_beam_groups=2", "diversity_penalty=0.5", "max_time=0.01",
        "prompt_lookup_num_tokens=2", "dola_layers=low", "on_overflow=4", "epsilon_cutoff=0.001",
        "temperature=1e-40", "length_penalty=-3", "num_beams=18446744073709551615",
        "max_new_tokens=18446744073709551615", "top_kk=3", "", "=", "stop", "eos_token_id=[5,6]",
        "bad_words_ids=[[1],[2,3]]", "renormalize_logits=true", "do_sample=true", "num_beams=0"};
    OK(gpt2_generate_options_init(&padded->of.generate, sizeof padded->of.generate));
    gpt2_generate_options *options = &padded->of.generate;
    options->max_new_tokens = one_in(60) ? (int64_t)number() % 100 : (int64_t)below(6);
    options->seed = chance();
    options->do_sample = (int32_t)below(3) - 1;
    options->ignore_eos = (int32_t)below(3) - 1;
    if (one_in(4)) options->temperature = one_in(6) ? -0.0 : 0.1 * (double)below(30);
    if (one_in(4)) options->top_k = (int64_t)number();
    if (one_in(4)) options->top_p = 0.1 * (double)below(12);
    if (one_in(4)) options->repetition_penalty = 0.5 * (double)below(5);
    options->n_parameters = below(5);
    for (size_t i = 0; i < options->n_parameters; i++)
        chosen[i] = one_in(100) ? NULL : known[below(sizeof known / sizeof known[0])];
    options->parameters = chosen;
    return any_size(padded);
}

static void models(void) {
    struct padded padded = {.beyond = {0}};
    static const char *const devices[] = {"cpu", "cuda0", "rpc://127.0.0.1:1", "", NULL};
    const char *chosen[2];
    char room[4096];
    size_t bytes, capacity, length;
    gpt2_model *new_model = (gpt2_model *)folder;
    void *memory;
    char *given;
    OK(gpt2_model_options_init(&padded.of.model, sizeof padded.of.model));
    gpt2_model_options *options = &padded.of.model;
    options->map = (int32_t)below(2);
    options->repack = (int32_t)below(2);
    options->lock = one_in(20);
    options->reserved = one_in(30);
    if (one_in(10)) {
        options->n_devices = 1 + below(2);
        for (size_t i = 0; i < options->n_devices; i++)
            chosen[i] = devices[one_in(2) ? 0 : below(5)];
        options->devices = chosen;
    }
    if (one_in(10)) options->gpu_layers = (int64_t)number();
    if (one_in(10)) options->memory = number();
    switch (below(9)) {
    case 0: /* rarely: it takes the longest */
        if (!one_in(3)) return;
        MADE(MODEL, new_model,
             gpt2_model_load(one_in(6) ? path(room) : file, any_size(&padded), &new_model));
        return;
    case 1:
        if (!one_in(4)) return;
        bytes = one_in(2) ? n_contents : below(n_contents);
        CHECK(posix_memalign(&memory, 64, n_contents) == 0);
        memcpy(memory, contents, n_contents);
        if (one_in(3)) ((unsigned char *)memory)[below(2000)] ^= 1 << below(8);
        int copied = one_in(2);
        gpt2_status status = gpt2_model_load_memory(memory, bytes, any_size(&padded),
                                                    copied ? NULL : release, memory, &new_model);
        if (copied || status != GPT2_OK)
            free(memory);
        else
            atomic_fetch_add(&taken, 1);
        made(MODEL, status, new_model);
        return;
    case 2:
        padded.of.info.size = sizeof padded.of.info;
        ended(gpt2_model_get_info(handle(MODEL), any_size(&padded)));
        return;
    case 3:
        memory = buffer(1, &capacity);
        ended(gpt2_model_label(handle(MODEL), number(), memory, capacity, &length));
        free(memory);
        return;
    case 4:
        given = text(&bytes);
        memory = buffer(4, &capacity);
        ended(gpt2_tokenize(handle(MODEL), given, bytes, (uint32_t)below(3), memory, capacity,
                            one_in(2) ? &length : NULL));
        free(memory);
        free(given);
        return;
    case 5: {
        uint32_t *list = tokens(&bytes);
        memory = buffer(1, &capacity);
        ended(gpt2_detokenize(handle(MODEL), list, bytes, (uint32_t)below(3), memory, capacity,
                              one_in(2) ? &length : NULL));
        free(memory);
        free(list);
        return;
    }
    case 6: {
        int32_t flag;
        memory = buffer(1, &capacity);
        ended(gpt2_token_bytes(handle(MODEL), (uint32_t)number(), memory, capacity, &length));
        ended(gpt2_token_is_end(handle(MODEL), (uint32_t)number(), one_in(20) ? NULL : &flag));
        free(memory);
        return;
    }
    case 7: {
        uint32_t token;
        given = text(&bytes);
        ended(gpt2_find_token(handle(MODEL), given, one_in(20) ? NULL : &token));
        free(given);
        return;
    }
    default:
        if (one_in(4)) ended(gpt2_model_free(handle(MODEL)));
    }
}

static void sessions(void) {
    struct padded padded = {.beyond = {0}};
    gpt2_session *new_session = (gpt2_session *)folder;
    OK(gpt2_session_options_init(&padded.of.session, sizeof padded.of.session));
    gpt2_session_options *options = &padded.of.session;
    switch (below(5)) {
    case 0:
        options->context = one_in(20) ? number() : 16 + below(80);
        options->batch_size = one_in(20) ? number() : 1 + below(32);
        options->sequences = one_in(20) ? number() : 1 + below(6);
        static const size_t threads[] = {0, 1, 1, 1, 2, 100000, SIZE_MAX};
        options->threads = threads[below(7)];
        if (one_in(10)) options->memory_limit = number();
        options->cache_type = (int32_t)below(6);
        options->flash_attention = (int32_t)below(4);
        MADE(SESSION, new_session,
             gpt2_session_new(handle(MODEL), any_size(&padded), &new_session));
        return;
    case 1:
        ended(gpt2_session_stop(handle(SESSION), one_in(4)));
        return;
    case 2:
        padded.of.memory.size = sizeof padded.of.memory;
        ended(gpt2_session_get_memory(handle(SESSION), any_size(&padded)));
        return;
    case 3:
        if (one_in(4)) ended(gpt2_session_free(handle(SESSION)));
        return;
    default:
        ended(gpt2_set_log_callback((int32_t)below(7), one_in(3) ? log_line : NULL, NULL));
    }
}

static uint32_t sequence(void) { return one_in(12) ? (uint32_t)number() : (uint32_t)below(3); }

static void computing(void) {
    struct padded padded = {.beyond = {0}};
    char room[4096];
    size_t n, capacity, length;
    uint32_t *list = tokens(&n);
    float *logits = buffer(sizeof *logits, &capacity);
    gpt2_output *new_output = (gpt2_output *)folder;
    switch (below(12)) {
    case 0:
        ended(gpt2_prefill(handle(SESSION), sequence(), list, n, logits, capacity, &length));
        break;
    case 1:
        ended(gpt2_decode(handle(SESSION), sequence(), (uint32_t)below(VOCABULARY + 1), logits,
                          capacity, NULL));
        break;
    case 2: {
        OK(gpt2_batch_init(&padded.of.batch, sizeof padded.of.batch));
        gpt2_batch *batch = &padded.of.batch;
        uint32_t *lists[4] = {NULL, NULL, NULL, NULL};
        uint8_t *marks[2] = {NULL, NULL};
        batch->tokens = list;
        batch->n_tokens = n;
        for (int i = 0; i < 4; i++) {
            if (!one_in(4)) continue;
            lists[i] = calloc(n + !n, sizeof *lists[i]);
            for (size_t at = 0; at < n; at++)
                lists[i][at] = i == 1 && one_in(2) ? (uint32_t)at
                                                   : one_in(50) ? (uint32_t)number()
                                                                : (uint32_t)below(3);
        }
        for (int i = 0; i < 2; i++) {
            if (!one_in(4)) continue;
            marks[i] = calloc(n + !n, 1);
            for (size_t at = 0; at < n; at++) marks[i][at] = (uint8_t)below(2);
        }
        batch->sequences = lists[0];
        batch->positions = lists[1];
        batch->position_ids = lists[2];
        batch->token_types = lists[3];
        batch->masked = marks[0];
        batch->wanted = marks[1];
        batch->outputs = one_in(20) ? (uint32_t)number() : (uint32_t)below(16);
        batch->reserved = one_in(40);
        batch->batch_invariant = one_in(4);
        batch->reserved_2 = one_in(40);
        MADE(OUTPUT, new_output, gpt2_run(handle(SESSION), any_size(&padded), &new_output));
        for (int i = 0; i < 4; i++) free(lists[i]);
        for (int i = 0; i < 2; i++) free(marks[i]);
        break;
    }
    case 3: {
        size_t shape[3];
        ended(gpt2_output_shape(handle(OUTPUT), (uint32_t)below(10), shape, below(4), &length));
        ended(gpt2_output_rows(handle(OUTPUT), one_in(20) ? NULL : &length));
        break;
    }
    case 4:
        ended(gpt2_output_read(handle(OUTPUT), (uint32_t)below(10), (size_t)number(), logits,
                               capacity, one_in(2) ? &length : NULL));
        if (one_in(8)) ended(gpt2_output_free(handle(OUTPUT)));
        break;
    case 5:
        ended(gpt2_cache_length(handle(SESSION), sequence(), one_in(20) ? NULL : &length));
        break;
    case 6:
        ended(gpt2_cache_tokens(handle(SESSION), sequence(), (uint32_t *)logits, capacity,
                                &length));
        break;
    case 7:
        ended(gpt2_cache_truncate(handle(SESSION), sequence(), (size_t)number()));
        break;
    case 8:
        ended(gpt2_cache_keep(handle(SESSION), sequence(), list, n, one_in(2) ? &length : NULL));
        break;
    case 9:
        ended(gpt2_cache_fork(handle(SESSION), sequence(), sequence()));
        if (one_in(3)) ended(gpt2_cache_clear(handle(SESSION)));
        break;
    case 10: {
        /* Never over the model's file. */
        const char *to = path(room);
        if (to == file) break;
        ended(gpt2_cache_save(handle(SESSION), sequence(), to, !one_in(5)));
        break;
    }
    default:
        ended(gpt2_cache_restore(handle(SESSION), sequence(), path(room), &length));
    }
    free(logits);
    free(list);
}

static void generations(void) {
    struct padded padded = {.beyond = {0}};
    const char *chosen[4];
    size_t n, capacity;
    uint32_t *list;
    float *values;
    gpt2_generation *new_generation = (gpt2_generation *)folder;
    gpt2_status status;
    switch (below(4)) {
    case 0:
    case 1:
        list = tokens(&n);
        int kept = !one_in(5);
        status = gpt2_generate(handle(SESSION), list, n, generating(&padded, chosen),
                               one_in(3) ? NULL : callback, (void *)file,
                               kept ? &new_generation : NULL);
        if (kept)
            made(GENERATION, status, new_generation);
        else
            ended(status);
        free(list);
        return;
    case 2:
        padded.of.continuation.size = sizeof padded.of.continuation;
        if (one_in(2)) {
            ended(gpt2_generation_get(handle(GENERATION), below(3), any_size(&padded)));
        } else {
            padded.of.timings.size = sizeof padded.of.timings;
            ended(gpt2_generation_get_timings(handle(GENERATION), any_size(&padded)));
        }
        CHECK(gpt2_generation_count(handle(GENERATION)) <= 64);
        if (one_in(4)) ended(gpt2_generation_free(handle(GENERATION)));
        return;
    default:
        values = buffer(sizeof *values, &capacity);
        ended(gpt2_generation_scores(handle(GENERATION), below(3), below(8), (int32_t)below(2),
                                     values, capacity, NULL));
        free(values);
    }
}

static void samplers(void) {
    struct padded padded = {.beyond = {0}};
    const char *chosen[4];
    size_t n = one_in(12) ? below(VOCABULARY) : VOCABULARY;
    uint32_t token;
    uint32_t *list;
    gpt2_sampler *new_sampler = (gpt2_sampler *)folder;
    float *scores = calloc(n + !n, sizeof *scores);
    CHECK(scores != NULL);
    for (size_t i = 0; i < n; i += 7) scores[i] = (float)below(100) / 10;
    if (n > 0 && one_in(20)) scores[below(n)] = NAN;
    switch (below(5)) {
    case 0: {
        size_t n_list;
        list = tokens(&n_list);
        MADE(SAMPLER, new_sampler,
             gpt2_sampler_new(handle(MODEL), generating(&padded, chosen), list, n_list,
                              &new_sampler));
        free(list);
        break;
    }
    case 1:
        ended(gpt2_sampler_add(handle(SAMPLER), one_in(20) ? NULL : process, NULL));
        break;
    case 2:
        ended(gpt2_sampler_choose(handle(SAMPLER), scores, n, one_in(20) ? NULL : &token));
        break;
    case 3:
        ended(gpt2_sampler_process(handle(SAMPLER), scores, n));
        ended(gpt2_sampler_accept(handle(SAMPLER), (uint32_t)below(VOCABULARY + 1)));
        break;
    default:
        if (one_in(4)) ended(gpt2_sampler_free(handle(SAMPLER)));
    }
    free(scores);
}

static void tasks(void) {
    struct padded padded = {.beyond = {0}};
    size_t bytes, others, capacity;
    char *given = text(&bytes), *other = text(&others);
    const char *choices[2] = {"yes", one_in(30) ? NULL : "no"};
    gpt2_results *new_results = (gpt2_results *)folder;
    float *vector;
    switch (below(6)) {
    case 0:
        MADE(RESULTS, new_results,
             gpt2_classify(handle(SESSION), given, bytes, (int32_t)below(6), &new_results));
        break;
    case 1:
        MADE(RESULTS, new_results,
             gpt2_tag(handle(SESSION), given, bytes, (int32_t)below(6), &new_results));
        break;
    case 2:
        MADE(RESULTS, new_results,
             gpt2_answer(handle(SESSION), given, bytes, other, others, number(), number(),
                         &new_results));
        break;
    case 3:
        MADE(RESULTS, new_results,
             gpt2_choose(handle(SESSION), one_in(3) ? NULL : "a", choices, below(3), &new_results));
        break;
    case 4:
        padded.of.result.size = sizeof padded.of.result;
        ended(gpt2_results_get(handle(RESULTS), below(4), any_size(&padded)));
        CHECK(gpt2_results_count(handle(RESULTS)) < 10000);
        if (one_in(4)) ended(gpt2_results_free(handle(RESULTS)));
        break;
    default:
        vector = buffer(sizeof *vector, &capacity);
        ended(gpt2_embed(handle(SESSION), given, bytes, (int32_t)below(4), (int32_t)below(2),
                         vector, capacity, NULL));
        free(vector);
    }
    free(given);
    free(other);
}

static void scoring(void) {
    struct padded padded = {.beyond = {0}};
    size_t bytes, n;
    char *given = text(&bytes);
    uint32_t *list = tokens(&n);
    const char *texts[2] = {"It is", one_in(20) ? NULL : " a truth that"};
    gpt2_scores *new_scores = (gpt2_scores *)folder;
    OK(gpt2_score_options_init(&padded.of.score, sizeof padded.of.score));
    gpt2_score_options *options = &padded.of.score;
    if (one_in(3)) options->context = "a";
    options->top = one_in(10) ? number() : below(4);
    options->stride = one_in(4) ? number() : 0;
    options->ranks = (int32_t)below(2);
    options->entropies = (int32_t)below(2);
    options->batching = (int32_t)below(4);
    switch (below(5)) {
    case 0:
        MADE(SCORES, new_scores,
             gpt2_score(handle(SESSION), texts, below(3), any_size(&padded), &new_scores));
        break;
    case 1:
        MADE(SCORES, new_scores,
             gpt2_score_tokens(handle(SESSION), list, n, number(), any_size(&padded),
                               &new_scores));
        break;
    case 2:
        padded.of.perplexity.size = sizeof padded.of.perplexity;
        ended(gpt2_perplexity(handle(SESSION), given, bytes, number(), number(),
                              any_size(&padded)));
        break;
    case 3:
        padded.of.of_token.size = sizeof padded.of.of_token;
        ended(gpt2_scores_token(handle(SCORES), below(3), below(5), any_size(&padded)));
        padded.of.of_token.size = sizeof padded.of.of_token;
        ended(gpt2_scores_top(handle(SCORES), below(3), below(5), below(5), any_size(&padded)));
        padded.of.of_token.size = sizeof padded.of.of_token;
        ended(gpt2_generation_logprob(handle(GENERATION), below(2), below(5), any_size(&padded)));
        padded.of.of_token.size = sizeof padded.of.of_token;
        ended(gpt2_generation_top(handle(GENERATION), below(2), below(5), below(3),
                                  any_size(&padded)));
        break;
    default:
        padded.of.of_text.size = sizeof padded.of.of_text;
        ended(gpt2_scores_get(handle(SCORES), below(3), any_size(&padded)));
        padded.of.of_word.size = sizeof padded.of.of_word;
        ended(gpt2_scores_word(handle(SCORES), below(3), below(3), any_size(&padded)));
        CHECK(gpt2_scores_count(handle(SCORES)) < 10000);
        if (one_in(4)) ended(gpt2_scores_free(handle(SCORES)));
    }
    free(given);
    free(list);
}

static void converting(void) {
    struct padded padded = {.beyond = {0}};
    static const char *const types[] = {"q8_0", "q4_0", "q4_k", "none", "", NULL};
    const char *pattern[] = {one_in(2) ? "attn=q8_0" : "(=q8_0"};
    char from[4096], to[4096];
    if (!one_in(40)) return;
    OK(gpt2_convert_options_init(&padded.of.convert, sizeof padded.of.convert));
    gpt2_convert_options *options = &padded.of.convert;
    options->file_type = types[below(6)];
    options->tensor_types = pattern;
    options->n_tensor_types = below(2);
    options->output_type = types[below(6)];
    options->embedding_type = types[below(6)];
    if (one_in(10)) options->importance_matrix = file;
    options->threads = 1 + below(2);
    options->overwrite = !one_in(4);
    options->reserved = one_in(20);
    const char *output = path(to);
    if (output == file) return;
    ended(gpt2_convert(path(from), output, any_size(&padded), one_in(2) ? progress : NULL, NULL));
}

static void about(void) {
    CHECK(gpt2_version() == GPT2_VERSION && gpt2_build_info()[0] != 0);
    CHECK(gpt2_last_error() != NULL);
}

/* The sanitizers' own locks may be held by another thread when the process forks. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { FORKS = 0 };
#else
enum { FORKS = 1 };
#endif

/* A child uses what it has for a moment, and frees it. */
static void forking(void) {
    if (!FORKS || depth > 0 || !one_in(60)) return;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(PATIENCE);
        depth = DEEPEST;
        for (int i = 0; i < 4; i++) computing();
        for (int kind = 0; kind < KINDS; kind++)
            for (int slot = 0; slot < SLOTS; slot++)
                free_of(kind, atomic_load(&handles[kind][slot]));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void any_call(void) {
    switch (below(18)) {
    case 16:
    case 17: scoring(); return;
    case 0: models(); return;
    case 1:
    case 2: sessions(); return;
    case 3:
    case 4:
    case 5:
    case 6:
    case 7: computing(); return;
    case 8:
    case 9:
    case 10: generations(); return;
    case 11:
    case 12: samplers(); return;
    case 13: tasks(); return;
    case 14: converting(); return;
    default:
        about();
        forking();
    }
}

static void *run(void *seed) {
    state = *(uint64_t *)seed;
    while (time(NULL) < end) any_call();
    return NULL;
}

static uint64_t setting(const char *name, uint64_t otherwise) {
    const char *given = getenv(name);
    return given != NULL && given[0] != 0 ? strtoull(given, NULL, 10) : otherwise;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    file = argv[1];
    folder = argv[2];
    uint64_t seconds = setting("GPT2_FUZZ_SECONDS", 5);
    uint64_t seed = setting("GPT2_FUZZ_SEED", (uint64_t)time(NULL));
    size_t n_threads = setting("GPT2_FUZZ_THREADS", 3);
    CHECK(n_threads >= 1 && n_threads <= MOST_THREADS);
    printf("GPT2_FUZZ_SEED=%llu GPT2_FUZZ_THREADS=%zu\n", (unsigned long long)seed, n_threads);
    fflush(stdout);
    FILE *stream = fopen(file, "rb");
    CHECK(stream != NULL && fseek(stream, 0, SEEK_END) == 0);
    n_contents = (size_t)ftell(stream);
    rewind(stream);
    contents = malloc(n_contents);
    CHECK(contents != NULL && fread(contents, 1, n_contents, stream) == n_contents);
    fclose(stream);
    for (int slot = 0; slot < 2; slot++) {
        gpt2_model *model;
        OK(gpt2_model_load(file, NULL, &model));
        atomic_store(&handles[MODEL][slot], model);
    }

    end = time(NULL) + (time_t)seconds;
    alarm((unsigned)seconds + PATIENCE);
    pthread_t threads[MOST_THREADS];
    uint64_t seeds[MOST_THREADS];
    for (size_t i = 0; i < n_threads; i++) {
        seeds[i] = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15) + i * UINT64_C(0xD1B54A32D192ED03) + 1;
        CHECK(pthread_create(&threads[i], NULL, run, &seeds[i]) == 0);
    }
    for (size_t i = 0; i < n_threads; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    OK(gpt2_set_log_callback(GPT2_LOG_ERROR, NULL, NULL));
    for (int kind = KINDS - 1; kind >= 0; kind--)
        for (int slot = 0; slot < SLOTS; slot++) {
            gpt2_status status = free_of(kind, atomic_load(&handles[kind][slot]));
            CHECK(status == GPT2_OK || status == GPT2_ERROR_HANDLE);
        }
    CHECK(atomic_load(&taken) == atomic_load(&released));
    free(contents);
    printf("%zu calls, %zu of them refused\n", atomic_load(&calls), atomic_load(&refused));
    return 0;
}
