/* Programs that were compiled against other versions of the header: abi MODEL.gguf
 *
 * The structures here are those of an older and of a newer one. The older are shorter, and stand
 * before memory that must not be touched. */
#include <stdint.h>

#include "check.h"

struct older_model_options {
    size_t size;
    int32_t map;
    int32_t lock;
    int32_t repack;
    int32_t reserved;
};

struct older_session_options {
    size_t size;
    size_t context;
    size_t batch_size;
    size_t sequences;
};

struct older_generate_options {
    size_t size;
    int64_t max_new_tokens;
};

struct older_info {
    size_t size;
    const char *model_class;
    size_t vocabulary;
};

struct older_continuation {
    size_t size;
    const uint32_t *tokens;
    size_t n_tokens;
};

struct newer_session_options {
    gpt2_session_options known;
    uint64_t wish;
};

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    gpt2_model *model;
    gpt2_session *session;
    gpt2_generation *generation;

    struct {
        struct older_model_options options;
        uint64_t guard;
    } of_loading = {.guard = UINT64_MAX};
    OK(gpt2_model_options_init((gpt2_model_options *)&of_loading.options,
                               sizeof of_loading.options));
    CHECK(of_loading.guard == UINT64_MAX && of_loading.options.map == 1);
    OK(gpt2_model_load(argv[1], (const gpt2_model_options *)&of_loading.options, &model));
    uint32_t prompt[] = {5, 6, 7};

    struct {
        struct older_session_options options;
        uint64_t guard;
    } of_session = {.guard = UINT64_MAX};
    OK(gpt2_session_options_init((gpt2_session_options *)&of_session.options,
                                 sizeof of_session.options));
    CHECK(of_session.guard == UINT64_MAX && of_session.options.sequences == 1);
    of_session.options.context = 32;
    OK(gpt2_session_new(model, (const gpt2_session_options *)&of_session.options, &session));

    struct {
        struct older_generate_options options;
        uint64_t guard;
    } of_generation = {.guard = UINT64_MAX};
    OK(gpt2_generate_options_init((gpt2_generate_options *)&of_generation.options,
                                  sizeof of_generation.options));
    CHECK(of_generation.guard == UINT64_MAX);
    of_generation.options.max_new_tokens = 4;
    OK(gpt2_generate(session, prompt, 3, (const gpt2_generate_options *)&of_generation.options,
                     NULL, NULL, &generation));

    struct {
        struct older_continuation found;
        uint64_t guard;
    } of_continuation = {.found = {.size = sizeof of_continuation.found}, .guard = UINT64_MAX};
    OK(gpt2_generation_get(generation, 0, (gpt2_continuation *)&of_continuation.found));
    CHECK(of_continuation.guard == UINT64_MAX && of_continuation.found.n_tokens == 4);

    struct {
        struct older_info found;
        uint64_t guard;
    } of_model = {.found = {.size = sizeof of_model.found}, .guard = UINT64_MAX};
    OK(gpt2_model_get_info(model, (gpt2_model_info *)&of_model.found));
    CHECK(of_model.guard == UINT64_MAX && of_model.found.vocabulary > 0);
    OK(gpt2_generation_free(generation));
    OK(gpt2_session_free(session));

    /* A newer program may know fields that this library does not, as long as it does not set
     * them. */
    struct newer_session_options newer;
    OK(gpt2_session_options_init(&newer.known, sizeof newer));
    CHECK(newer.known.size == sizeof newer && newer.wish == 0);
    OK(gpt2_session_new(model, &newer.known, &session));
    OK(gpt2_session_free(session));
    newer.wish = 1;
    FAILS(GPT2_ERROR_UNSUPPORTED, "gpt2_session_options",
          gpt2_session_new(model, &newer.known, &session));
    CHECK(session == NULL);

    /* Sizes that cannot be. */
    newer.known.size = 0;
    FAILS(GPT2_ERROR_ARGUMENT, "size", gpt2_session_new(model, &newer.known, &session));
    newer.known.size = sizeof(size_t) + 1;
    FAILS(GPT2_ERROR_ARGUMENT, "size", gpt2_session_new(model, &newer.known, &session));
    FAILS(GPT2_ERROR_ARGUMENT, "size", gpt2_session_options_init(&newer.known, 3));
    OK(gpt2_model_free(model));
    puts("older and newer programs work");
    return 0;
}
