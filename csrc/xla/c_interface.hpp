// What a CPU custom call needs of XLA's C interface for foreign functions, version 0.3, as in xla/ffi/api/c_api.h:
// structures are only ever added to at their end. Declared here so that a build needs no copy of XLA or jaxlib;
// tests/xla_interface.cpp holds it against the published header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace kidseg::xla {

constexpr int version_major = 0, version_minor = 3;
constexpr int int32 = 4, float32 = 11;
constexpr int metadata_extension = 1;
constexpr int invalid_argument = 3, internal_error = 13;

struct Error;
struct Context;

struct Extension {
    std::size_t struct_size;
    int type;
    Extension* next;
};

struct Version {
    std::size_t struct_size;
    Extension* extensions;
    int major_version, minor_version;
};

struct Metadata {
    std::size_t struct_size;
    Version version;
    std::uint32_t traits;
    std::int64_t state_type;
};

struct MetadataExtension {
    Extension base;
    Metadata* metadata;
};

struct ErrorCreate {
    std::size_t struct_size;
    Extension* extensions;
    const char* message;
    int code;
};

struct ErrorDestroy {
    std::size_t struct_size;
    Extension* extensions;
    Error* error;
};

struct PoolSchedule {
    std::size_t struct_size;
    Extension* extensions;
    Context* context;
    void (*task)(void*);
    void* data;
};

struct PoolSize {
    std::size_t struct_size;
    Extension* extensions;
    Context* context;
    std::int64_t* threads;
};

struct Api {
    std::size_t struct_size;
    Extension* extensions;
    Version version;
    const void* internal;
    Error* (*error_create)(ErrorCreate*);
    void (*error_message)(void*);
    void (*error_destroy)(ErrorDestroy*);
    void* unused[8];  // registration, stream, types, state, device memory
    Error* (*pool_schedule)(PoolSchedule*);
    Error* (*pool_size)(PoolSize*);
};

struct Buffer {
    std::size_t struct_size;
    Extension* extensions;
    int dtype;
    void* data;
    std::int64_t rank;
    std::int64_t* dims;
};

struct Buffers {
    std::size_t struct_size;
    Extension* extensions;
    std::int64_t size;
    int* types;
    Buffer** at;
};

struct Attributes {
    std::size_t struct_size;
    Extension* extensions;
    std::int64_t size;
    int* types;
    void* names;
    void** values;
};

struct Call {
    std::size_t struct_size;
    Extension* extensions;
    const Api* api;
    Context* context;
    int stage;
    Buffers inputs, outputs;
    Attributes attributes;
};

// Whether XLA only asks for the version a handler was written for; answers it.
[[nodiscard]] inline bool answered_metadata(Call* call) {
    if (call->extensions == nullptr || call->extensions->type != metadata_extension) return false;
    Metadata* metadata = reinterpret_cast<MetadataExtension*>(call->extensions)->metadata;
    metadata->version.major_version = version_major;
    metadata->version.minor_version = version_minor;
    metadata->traits = 0;
    return true;
}

[[nodiscard]] inline Error* error(const Call* call, int code, const std::string& message) {
    ErrorCreate args{sizeof(ErrorCreate), nullptr, message.c_str(), code};
    return call->api->error_create(&args);
}

// Whether there is none; an error is thrown away.
[[nodiscard]] inline bool succeeded(const Call* call, Error* error) {
    if (error == nullptr) return true;
    ErrorDestroy args{sizeof(ErrorDestroy), nullptr, error};
    call->api->error_destroy(&args);
    return false;
}

// Threads of XLA's own pool; 1 where it has none.
[[nodiscard]] inline std::int64_t pool_threads(const Call* call) {
    std::int64_t threads = 1;
    PoolSize args{sizeof(PoolSize), nullptr, call->context, &threads};
    return succeeded(call, call->api->pool_size(&args)) ? threads : 1;
}

[[nodiscard]] inline bool pool_schedule(const Call* call, void (*task)(void*), void* data) {
    PoolSchedule args{sizeof(PoolSchedule), nullptr, call->context, task, data};
    return succeeded(call, call->api->pool_schedule(&args));
}

}  // namespace kidseg::xla
