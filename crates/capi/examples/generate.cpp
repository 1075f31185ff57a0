// generate.c in C++: generate_cpp MODEL.gguf PROMPT [NAME=VALUE...]
#include <iostream>

#include <gpt2.hpp>

int main(int argc, char **argv) {
    if (argc < 3) {
        std::cerr << "usage: " << argv[0] << " MODEL.gguf PROMPT [NAME=VALUE...]\n";
        return 2;
    }
    try {
        gpt2::model model(argv[1]);
        gpt2::session session(model);
        auto options = gpt2::options<gpt2_generate_options>();
        options.parameters = argv + 3;
        options.n_parameters = static_cast<std::size_t>(argc - 3);
        session.generate(model.tokenize(argv[2]), options, [](const gpt2_step &step) {
            std::cout << std::string_view(step.text, step.text_bytes) << std::flush;
            return bool(std::cout);
        });
        std::cout << '\n';
    } catch (const gpt2::error &error) {
        std::cerr << "error: " << error.what() << '\n';
        return 1;
    }
}
