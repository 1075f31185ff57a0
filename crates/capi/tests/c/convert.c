/* Converts a checkpoint: convert SOURCE OUT.gguf TYPE */
#include "check.h"

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    gpt2_convert_options options;
    OK(gpt2_convert_options_init(&options, sizeof options));
    options.file_type = argv[3];
    OK(gpt2_convert(argv[1], argv[2], &options, NULL, NULL));
    return 0;
}
