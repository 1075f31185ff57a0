// The transport of ggml's RPC, instead of ggml-rpc/transport.cpp: functions that the library gives
// (src/ggml/remote/transport.rs). ggml ends the process when one of its own fails, and waits for
// ever for a worker that does not answer.
#include "ggml-rpc/transport.h"

#include <cstring>

extern "C" {
// The same as `Functions` there.
struct rpc_functions {
    void * (*connect)(const char * host, int port);
    void * (*listen)(const char * host, int port);
    void * (*accept)(void * socket);
    bool   (*send)(void * socket, const void * data, size_t size);
    bool   (*flush)(void * socket);
    bool   (*receive)(void * socket, void * data, size_t size);
    void   (*close)(void * socket);
};

// Named as ggml's own functions are, all of which stay hidden in our libraries.
void ggml_rpc_use_transport(const rpc_functions * functions);
}

static const rpc_functions * used = nullptr;

void ggml_rpc_use_transport(const rpc_functions * functions) {
    used = functions;
}

struct socket_t::impl {
    explicit impl(void * socket) : socket(socket) {}
    ~impl() { used->close(socket); }
    void * socket;
};

socket_t::socket_t(std::unique_ptr<impl> p) : pimpl(std::move(p)) {}

socket_t::~socket_t() = default;

bool socket_t::send_data(const void * data, size_t size) {
    return used->send(pimpl->socket, data, size);
}

bool socket_t::recv_data(void * data, size_t size) {
    return used->receive(pimpl->socket, data, size);
}

bool socket_t::flush() {
    return used->flush(pimpl->socket);
}

socket_ptr socket_t::accept() {
    void * client = used->accept(pimpl->socket);
    return client ? socket_ptr(new socket_t(std::make_unique<impl>(client))) : nullptr;
}

socket_ptr socket_t::create_server(const char * host, int port) {
    void * listener = used->listen(host, port);
    return listener ? socket_ptr(new socket_t(std::make_unique<impl>(listener))) : nullptr;
}

socket_ptr socket_t::connect(const char * host, int port) {
    void * connection = used->connect(host, port);
    return connection ? socket_ptr(new socket_t(std::make_unique<impl>(connection))) : nullptr;
}

// No RDMA.
void socket_t::get_caps(uint8_t * local_caps) {
    memset(local_caps, 0, RPC_CONN_CAPS_SIZE);
}

void socket_t::update_caps(const uint8_t *) {}

const char * socket_t::transport_name() const {
    return "TCP";
}

bool rpc_transport_init() {
    return used != nullptr;
}

void rpc_transport_shutdown() {}
