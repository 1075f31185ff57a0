/* A program with a ggml of its own beside the library's: second_ggml MODEL.gguf
 * Its own is used before, between and after calls into the library. */
#include "check.h"

const char *ggml_version(void);
size_t ggml_type_size(int type);

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    CHECK(ggml_type_size(0) == 4);
    gpt2_model *model;
    gpt2_session *session;
    OK(gpt2_model_load(argv[1], NULL, &model));
    OK(gpt2_session_new(model, NULL, &session));
    CHECK(ggml_type_size(1) == 2);
    uint32_t token = 5;
    OK(gpt2_prefill(session, 0, &token, 1, NULL, 0, NULL));
    OK(gpt2_session_free(session));
    OK(gpt2_model_free(model));
    printf("beside ggml %s\n", ggml_version());
    return 0;
}
