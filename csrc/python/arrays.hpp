// NumPy arrays as grids, where they lie. Arguments are checked in Python; what is checked here keeps memory safe.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/grid.hpp"

namespace kidseg {

namespace py = pybind11;

template <class T>
void require_layout(const py::array& array) {
    if (array.ndim() != 3 || array.itemsize() != static_cast<py::ssize_t>(sizeof(T)))
        throw std::invalid_argument("_kernels: need a 3-D array of " + std::to_string(sizeof(T)) + "-byte items");
    for (py::ssize_t axis = 0; axis < 3; ++axis)
        if (array.shape(axis) > 1 && array.strides(axis) % static_cast<py::ssize_t>(sizeof(T)) != 0)
            throw std::invalid_argument("_kernels: strides must be whole items");
    if (reinterpret_cast<std::uintptr_t>(array.data()) % alignof(T) != 0)
        throw std::invalid_argument("_kernels: need an aligned array");
}

template <class T>
Grid<const T> input(const py::array& array) {
    require_layout<T>(array);
    Grid<const T> grid{static_cast<const T*>(array.data()), {}, {}};
    for (std::size_t a = 0; a < 3; ++a) {
        grid.shape[a] = array.shape(static_cast<py::ssize_t>(a));
        grid.stride[a] = array.strides(static_cast<py::ssize_t>(a)) / static_cast<py::ssize_t>(sizeof(T));
    }
    return grid;
}

template <class T>
Grid<T> output(py::array& array) {
    const Grid<const T> grid = input<T>(array);
    return {static_cast<T*>(array.mutable_data()), grid.shape, grid.stride};
}

template <class T>
Grid<T> output_like(py::array& array, const Index3& shape) {
    const Grid<T> grid = output<T>(array);
    if (grid.shape != shape) throw std::invalid_argument("_kernels: output shape differs from input shape");
    return grid;
}

// Labels are compared only for equality, so signed and unsigned types of one width share their code.
template <class F>
auto by_width(const py::array& array, F&& f) {
    switch (array.itemsize()) {
        case 1: return f(std::uint8_t{});
        case 2: return f(std::uint16_t{});
        case 4: return f(std::uint32_t{});
        case 8: return f(std::uint64_t{});
        default: throw std::invalid_argument("_kernels: need items of 1, 2, 4 or 8 bytes");
    }
}

// The values where they lie, kept for as long as the array.
template <class V>
py::array_t<V> array_of(std::vector<V>&& values) {
    auto kept = std::make_unique<std::vector<V>>(std::move(values));
    const auto n = static_cast<py::ssize_t>(kept->size());
    V* data = kept->data();
    const py::capsule owner(kept.get(), [](void* v) { delete static_cast<std::vector<V>*>(v); });
    kept.release();
    return py::array_t<V>(n, data, owner);
}

// Tight box around the voxels that are not zero.
std::optional<Box> box_of(const py::array& mask);

}  // namespace kidseg
