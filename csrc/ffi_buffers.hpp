// Buffers of XLA's custom calls as grids, where they lie; what goes wrong becomes an error of the call. The calls check
// little: kidseg_jax/kernels/ffi/ has checked shapes and types.
#pragma once

#include <cstdint>
#include <exception>
#include <stdexcept>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include "xla/ffi/api/ffi.h"
#pragma GCC diagnostic pop

#include "grid.hpp"

namespace kidseg {

namespace ffi = xla::ffi;

using Buffer = ffi::AnyBuffer;
using Result = ffi::Result<ffi::AnyBuffer>;
using I32 = ffi::Buffer<ffi::S32>;
using F32 = ffi::Buffer<ffi::F32>;
using Ints = ffi::Result<I32>;
using Floats = ffi::Result<F32>;

template <class T>
[[nodiscard]] Grid<T> grid_of(const Buffer& buffer) {
    const auto n = buffer.dimensions();
    if (n.size() != 3) throw std::invalid_argument("need a 3-D buffer");
    return {reinterpret_cast<T*>(buffer.untyped_data()), {n[0], n[1], n[2]}, {n[1] * n[2], n[2], 1}};
}

template <class F>
void by_width(const Buffer& buffer, F&& f) {
    switch (ffi::ByteWidth(buffer.element_type())) {
        case 1: return f(std::uint8_t{});
        case 2: return f(std::uint16_t{});
        case 4: return f(std::uint32_t{});
        case 8: return f(std::uint64_t{});
        default: throw std::invalid_argument("need items of 1, 2, 4 or 8 bytes");
    }
}

template <class F>
[[nodiscard]] ffi::Error guarded(F&& f) {
    try {
        f();
        return ffi::Error::Success();
    } catch (const std::exception& error) {
        return ffi::Error::InvalidArgument(error.what());
    }
}

[[nodiscard]] inline Spacing spacing_of(ffi::Span<const double> spacing_mm) {
    if (spacing_mm.size() != 3) throw std::invalid_argument("spacing_mm must be 3 numbers");
    return {spacing_mm[0], spacing_mm[1], spacing_mm[2]};
}

}  // namespace kidseg
