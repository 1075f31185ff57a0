/* Every function of the interface, used and misused: interface MODEL.gguf FOLDER [TOKENS]
 * FOLDER is empty and may be written to. TOKENS of a text may be fewer than 20 where computing is
 * slow, not than 4. */
#include "computing.h"

static int lines = 0;
static void count_lines(int32_t level, const char *message, void *user_data) {
    (void)user_data;
    CHECK(level >= GPT2_LOG_ERROR && level <= GPT2_LOG_TRACE && message != NULL);
    lines++;
}

static void about(void) {
    CHECK(gpt2_version() == GPT2_VERSION);
    CHECK(strstr(gpt2_build_info(), "backend CPU") != NULL);
    CHECK(strcmp(gpt2_last_error(), "") == 0);
    FAILS(GPT2_ERROR_ARGUMENT, "level", gpt2_set_log_callback(9, count_lines, NULL));
    OK(gpt2_set_log_callback(GPT2_LOG_DEBUG, count_lines, NULL));
}

static void loading(const char *file, gpt2_model **model) {
    gpt2_model_options options;
    OK(gpt2_model_options_init(&options, sizeof options));
    CHECK(options.size == sizeof options && options.map == 1 && options.lock == 0);
    options.map = 0;
    *model = (gpt2_model *)&options;
    FAILS(GPT2_ERROR_IO, "/no/such", gpt2_model_load("/no/such/file", &options, model));
    CHECK(*model == NULL);
    FAILS(GPT2_ERROR_ARGUMENT, "NULL", gpt2_model_load(NULL, NULL, model));
    FAILS(GPT2_ERROR_ARGUMENT, "NULL", gpt2_model_load(file, NULL, NULL));
    FAILS(GPT2_ERROR_FORMAT, "", gpt2_model_load(__FILE__, NULL, model));
    CHECK(options.devices == NULL && options.n_devices == 0 && options.gpu_layers == -1 &&
          options.memory == 0);
    const char *devices[] = {"cpu", "cuda99"};
    options.devices = devices;
    options.n_devices = 2;
    FAILS(GPT2_ERROR_ARGUMENT, "cuda99", gpt2_model_load(file, &options, model));
    options.n_devices = 1;
    options.gpu_layers = 3;
    options.memory = 1 << 20;
    FAILS(GPT2_ERROR_MEMORY, "1.0 MiB", gpt2_model_load(file, &options, model));
    options.memory = UINT64_C(1) << 40;
    OK(gpt2_model_load(file, &options, model));

    gpt2_model_info info = {.size = sizeof info};
    OK(gpt2_model_get_info(*model, &info));
    CHECK(strcmp(info.model_class, "GPT2LMHeadModel") == 0);
    CHECK(info.vocabulary == 4096 && info.positions == 512 && info.layers == 6 &&
          info.width == 256);
    CHECK(info.has_tokenizer && info.predicts_tokens && info.labels == 0 && info.eos >= 0);
    CHECK(info.own_bytes > 1000000);
    FAILS(GPT2_ERROR_ARGUMENT, "label", gpt2_model_label(*model, 0, NULL, 0, NULL));
    info.size = 12;
    FAILS(GPT2_ERROR_ARGUMENT, "size", gpt2_model_get_info(*model, &info));
}

static int released = 0;
static void release(void *memory) {
    released++;
    free(memory);
}

/* A model in memory, used where it is, freed before its session. */
static void memory(const char *file) {
    FILE *stream = fopen(file, "rb");
    CHECK(stream != NULL && fseek(stream, 0, SEEK_END) == 0);
    size_t bytes = (size_t)ftell(stream);
    rewind(stream);
    unsigned char *data = NULL;
    CHECK(posix_memalign((void **)&data, 64, bytes) == 0 && fread(data, 1, bytes, stream) == bytes);
    fclose(stream);
    gpt2_model *model, *copied;
    gpt2_session *session;
    OK(gpt2_model_load_memory(data, bytes, NULL, NULL, NULL, &copied));
    OK(gpt2_model_free(copied));
    FAILS(GPT2_ERROR_FORMAT, "",
          gpt2_model_load_memory(data, bytes / 2, NULL, release, data, &model));
    CHECK(model == NULL && released == 0);
    OK(gpt2_model_load_memory(data, bytes, NULL, release, data, &model));
    OK(gpt2_session_new(model, NULL, &session));
    OK(gpt2_model_free(model));
    CHECK(released == 0);
    FAILS(GPT2_ERROR_HANDLE, "gpt2_model", gpt2_model_free(model));
    uint32_t token = 5;
    size_t length;
    OK(gpt2_prefill(session, 0, &token, 1, NULL, 0, &length));
    CHECK(length == 4096);
    OK(gpt2_session_free(session));
    CHECK(released == 1);
}

static void text(const gpt2_model *model) {
    size_t count, length;
    uint32_t *tokens = tokens_of(model, TEXT, &count);
    uint32_t room[2] = {77, 77};
    FAILS(GPT2_ERROR_BUFFER, "room for 1",
          gpt2_tokenize(model, TEXT, GPT2_NUL_TERMINATED, 0, room, 1, &length));
    CHECK(length == count && room[0] == 77);
    OK(gpt2_tokenize(model, TEXT, 2, 0, room, 2, &length));
    CHECK(length == 1 && room[0] == tokens[0] && room[1] == 77);
    FAILS(GPT2_ERROR_ARGUMENT, "UTF-8", gpt2_tokenize(model, "\xff", 1, 0, room, 2, &length));
    FAILS(GPT2_ERROR_ARGUMENT, "flags", gpt2_tokenize(model, TEXT, 2, 2, room, 2, &length));
    FAILS(GPT2_ERROR_ARGUMENT, "NULL",
          gpt2_tokenize(model, NULL, GPT2_NUL_TERMINATED, 0, room, 2, &length));

    /* What is written out is a special token, or text, as asked. */
    uint32_t end;
    int32_t is_end;
    OK(gpt2_find_token(model, "<|endoftext|>", &end));
    FAILS(GPT2_ERROR_ARGUMENT, "no token", gpt2_find_token(model, "no such token", &end));
    OK(gpt2_token_is_end(model, end, &is_end));
    CHECK(is_end == 1);
    OK(gpt2_token_is_end(model, tokens[0], &is_end));
    CHECK(is_end == 0);
    OK(gpt2_tokenize(model, "<|endoftext|>", GPT2_NUL_TERMINATED, 0, room, 2, &length));
    CHECK(length == 1 && room[0] == end);
    OK(gpt2_tokenize(model, "<|endoftext|>", GPT2_NUL_TERMINATED, GPT2_TOKENIZE_ORDINARY, NULL, 0,
                     &length));
    CHECK(length > 1);

    char back[64], joined[64] = "";
    OK(gpt2_detokenize(model, tokens, count, 0, back, sizeof back, &length));
    CHECK(strcmp(back, TEXT) == 0 && length == strlen(TEXT));
    FAILS(GPT2_ERROR_BUFFER, "text",
          gpt2_detokenize(model, tokens, count, 0, back, length, &length));
    OK(gpt2_detokenize(model, &end, 1, GPT2_DETOKENIZE_SKIP_SPECIAL, back, sizeof back, &length));
    CHECK(length == 0 && back[0] == 0);
    for (size_t i = 0, at = 0; i < count; i++, at += length) {
        OK(gpt2_token_bytes(model, tokens[i], (uint8_t *)joined + at, sizeof joined - at, &length));
    }
    CHECK(strcmp(joined, TEXT) == 0);
    uint32_t outside = 4096;
    FAILS(GPT2_ERROR_ARGUMENT, "4096",
          gpt2_detokenize(model, &outside, 1, 0, back, sizeof back, &length));
    FAILS(GPT2_ERROR_HANDLE, "NULL", gpt2_find_token(NULL, "a", &end));
    free(tokens);
}

struct heard {
    gpt2_session *session;
    char text[4096];
    size_t tokens, ends, most;
};

static int32_t hear(const gpt2_step *step, void *user_data) {
    struct heard *heard = user_data;
    CHECK(step->size == sizeof *step && strlen(step->text) == step->text_bytes);
    CHECK(gpt2_decode(heard->session, 0, 1, NULL, 0, NULL) == GPT2_ERROR_BUSY);
    if (step->sequence == 0)
        strncat(heard->text, step->text, sizeof heard->text - strlen(heard->text) - 1);
    if (step->finished) {
        heard->ends++;
        return 1;
    }
    return ++heard->tokens == heard->most;
}

static void halve(float *scores, size_t n_scores, const uint32_t *tokens, size_t n_tokens,
                  void *user_data) {
    CHECK(n_scores == 4096 && n_tokens > 0 && tokens != NULL);
    ++*(size_t *)user_data;
    for (size_t i = 0; i < n_scores; i++) scores[i] /= 2;
}

static void generating(const gpt2_model *model, size_t n_tokens) {
    size_t count, length;
    uint32_t *prompt = tokens_of(model, TEXT, &count);
    gpt2_session_options session_options;
    OK(gpt2_session_options_init(&session_options, sizeof session_options));
    session_options.sequences = 4;
    session_options.context = 256;
    gpt2_session *session;
    OK(gpt2_session_new(model, &session_options, &session));
    gpt2_generate_options options;
    OK(gpt2_generate_options_init(&options, sizeof options));
    options.max_new_tokens = (int64_t)n_tokens;
    gpt2_generation *generation;
    struct heard heard = {.session = session};
    OK(gpt2_generate(session, prompt, count, &options, hear, &heard, &generation));
    CHECK(gpt2_generation_count(generation) == 1 && heard.tokens == n_tokens && heard.ends == 1);
    gpt2_continuation continuation = {.size = sizeof continuation};
    OK(gpt2_generation_get(generation, 0, &continuation));
    CHECK(continuation.n_tokens == n_tokens && continuation.finish_reason == GPT2_FINISH_LENGTH);
    CHECK(isnan(continuation.score) && strcmp(continuation.text, heard.text) == 0);
    FAILS(GPT2_ERROR_ARGUMENT, "index", gpt2_generation_get(generation, 1, &continuation));
    FAILS(GPT2_ERROR_ARGUMENT, "output_scores",
          gpt2_generation_scores(generation, 0, 0, 0, NULL, 0, NULL));
    gpt2_timings timings = {.size = sizeof timings};
    OK(gpt2_generation_get_timings(generation, &timings));
    CHECK(timings.prefill_tokens == count && timings.decode_tokens == n_tokens - 1 &&
          timings.decode_seconds > 0);

    /* The same by hand, and with the sampler's rule that changes nothing but is asked. */
    static float logits[4096];
    gpt2_sampler *sampler;
    size_t asked = 0;
    OK(gpt2_sampler_new(model, &options, prompt, count, &sampler));
    OK(gpt2_sampler_add(sampler, halve, &asked));
    OK(gpt2_cache_clear(session));
    OK(gpt2_prefill(session, 0, prompt, count, logits, 4096, NULL));
    for (size_t i = 0; i < n_tokens; i++) {
        uint32_t token;
        OK(gpt2_sampler_choose(sampler, logits, 4096, &token));
        CHECK(token == continuation.tokens[i]);
        OK(gpt2_decode(session, 0, token, logits, 4096, NULL));
    }
    CHECK(asked == n_tokens);
    float before = logits[7];
    OK(gpt2_sampler_process(sampler, logits, 4096));
    CHECK(logits[7] == before / 2);
    OK(gpt2_sampler_accept(sampler, 7));
    FAILS(GPT2_ERROR_ARGUMENT, "4096", gpt2_sampler_accept(sampler, 4096));
    FAILS(GPT2_ERROR_ARGUMENT, "4095", gpt2_sampler_process(sampler, logits, 4095));
    for (size_t i = 0; i < 4096; i++) logits[i] = NAN;
    uint32_t token;
    CHECK(gpt2_sampler_choose(sampler, logits, 4096, &token) == GPT2_ERROR_FORMAT);
    OK(gpt2_sampler_free(sampler));
    FAILS(GPT2_ERROR_HANDLE, "gpt2_sampler", gpt2_sampler_accept(sampler, 7));
    OK(gpt2_generation_free(generation));

    /* Stopped by the callback, by a text, and drawn twice from the same seed. */
    heard = (struct heard){.session = session, .most = 3};
    OK(gpt2_generate(session, prompt, count, &options, hear, &heard, &generation));
    OK(gpt2_generation_get(generation, 0, &continuation));
    CHECK(continuation.finish_reason == GPT2_FINISH_STOPPED && continuation.n_tokens == 3 &&
          heard.ends == 1);
    OK(gpt2_generation_free(generation));
    const char *parameters[] = {"num_return_sequences=2", "output_scores=true",
                                "output_logits=true", "stop= the"};
    options.parameters = parameters;
    options.n_parameters = 4;
    options.do_sample = 1;
    options.temperature = 0.9;
    options.seed = 3;
    char first[4096];
    for (int round = 0; round < 2; round++) {
        OK(gpt2_generate(session, prompt, count, &options, NULL, NULL, &generation));
        CHECK(gpt2_generation_count(generation) == 2);
        OK(gpt2_generation_get(generation, 1, &continuation));
        CHECK(strstr(continuation.text, " the") == NULL);
        CHECK(round == 0 || strcmp(first, continuation.text) == 0);
        snprintf(first, sizeof first, "%s", continuation.text);
        OK(gpt2_generation_scores(generation, 1, 0, 0, logits, 4096, &length));
        OK(gpt2_generation_scores(generation, 1, 0, 1, logits, 4096, &length));
        CHECK(length == 4096 && isfinite(logits[0]));
        OK(gpt2_generation_free(generation));
    }
    CHECK(gpt2_generation_count(generation) == 0);

    /* A search, and what is refused. */
    const char *beams[] = {"num_beams=3", "length_penalty=0.5"};
    OK(gpt2_generate_options_init(&options, sizeof options));
    options.max_new_tokens = n_tokens < 8 ? (int64_t)n_tokens : 8;
    options.parameters = beams;
    options.n_parameters = 2;
    OK(gpt2_generate(session, prompt, count, &options, NULL, NULL, &generation));
    OK(gpt2_generation_get(generation, 0, &continuation));
    CHECK(isfinite(continuation.score));
    OK(gpt2_generation_free(generation));
    const char *unknown[] = {"top_kk=3"};
    options.parameters = unknown;
    options.n_parameters = 1;
    FAILS(GPT2_ERROR_ARGUMENT, "top_kk",
          gpt2_generate(session, prompt, count, &options, NULL, NULL, &generation));
    CHECK(generation == NULL);
    options.n_parameters = 0;
    options.top_p = 2;
    FAILS(GPT2_ERROR_ARGUMENT, "top_p",
          gpt2_generate(session, prompt, count, &options, NULL, NULL, NULL));
    options.top_p = NAN;
    FAILS(GPT2_ERROR_ARGUMENT, "top_p",
          gpt2_generate(session, prompt, count, &options, NULL, NULL, NULL));
    FAILS(GPT2_ERROR_UNSUPPORTED, "GPT2For",
          gpt2_classify(session, TEXT, GPT2_NUL_TERMINATED, GPT2_SCORES_DEFAULT,
                        (gpt2_results **)&generation));
    OK(gpt2_session_free(session));
    OK(gpt2_session_free(NULL));
    FAILS(GPT2_ERROR_HANDLE, "gpt2_session", gpt2_session_free(session));
    FAILS(GPT2_ERROR_HANDLE, "gpt2_session", gpt2_session_free((gpt2_session *)model));
    free(prompt);
}

static int32_t stop_at_half(uint64_t written, uint64_t total, void *user_data) {
    CHECK(written <= total && total > 1000000);
    *(uint64_t *)user_data = written;
    return written > total / 2;
}

static void converting(const char *file, const char *folder) {
    char output[4096];
    uint64_t written = 0;
    snprintf(output, sizeof output, "%s/smaller.gguf", folder);
    gpt2_convert_options options;
    OK(gpt2_convert_options_init(&options, sizeof options));
    FAILS(GPT2_ERROR_ARGUMENT, "file_type", gpt2_convert(file, output, &options, NULL, NULL));
    options.file_type = "q4_k";
    const char *types[] = {"attn_qkv=q8_0"};
    options.tensor_types = types;
    options.n_tensor_types = 1;
    options.threads = 2;
    CHECK(gpt2_convert(file, output, &options, stop_at_half, &written) == GPT2_ERROR_STOPPED &&
          written > 0);
    CHECK(fopen(output, "rb") == NULL);
    OK(gpt2_convert(file, output, &options, NULL, NULL));
    FAILS(GPT2_ERROR_ARGUMENT, output, gpt2_convert(file, output, &options, NULL, NULL));
    gpt2_model *model;
    OK(gpt2_model_load(output, NULL, &model));
    OK(gpt2_model_free(model));
}

int main(int argc, char **argv) {
    if (argc < 3 || argc > 4) return 2;
    size_t n_tokens = argc == 4 ? (size_t)atoi(argv[3]) : 20;
    CHECK(n_tokens >= 4 && n_tokens <= 20);
    gpt2_model *model;
    about();
    loading(argv[1], &model);
    memory(argv[1]);
    text(model);
    computing(model, argv[2]);
    generating(model, n_tokens);
    converting(argv[1], argv[2]);
    OK(gpt2_set_log_callback(GPT2_LOG_ERROR, NULL, NULL));
    OK(gpt2_model_free(model));
    printf("%d lines of log\n", lines);
    return 0;
}
