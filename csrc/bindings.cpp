// The one file that knows Python: wraps arrays as grids, releases the GIL, calls, converts. Arguments are checked
// in kernels.py; what is checked here keeps memory safe.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cleanup.hpp"
#include "instances.hpp"
#include "resample.hpp"
#include "roi.hpp"
#include "sampling.hpp"
#include "surface.hpp"

namespace py = pybind11;
using namespace py::literals;

namespace {

using kidseg::Box;
using kidseg::Components;
using kidseg::Grid;
using kidseg::Index;
using kidseg::Index3;
using kidseg::RunsOf;
using kidseg::Spacing;

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

template <class V>
py::array_t<V> array_of(const std::vector<V>& values) {
    return py::array_t<V>(static_cast<py::ssize_t>(values.size()), values.data());
}

template <class T>
py::tuple stats_of(const Components<T>& components) {
    std::vector<kidseg::ComponentStat<T>> stats;
    {
        py::gil_scoped_release release;
        stats = components.stats();
    }
    const auto n = static_cast<py::ssize_t>(stats.size());
    py::array_t<T> label(n);
    py::array_t<std::int64_t> voxels(n), lo({n, py::ssize_t{3}}), hi({n, py::ssize_t{3}}), sum({n, py::ssize_t{3}});
    for (py::ssize_t i = 0; i < n; ++i) {
        const auto& s = stats[static_cast<std::size_t>(i)];
        label.mutable_at(i) = s.label;
        voxels.mutable_at(i) = s.voxels;
        for (std::size_t a = 0; a < 3; ++a) {
            const auto axis = static_cast<py::ssize_t>(a);
            lo.mutable_at(i, axis) = s.box.lo[a];
            hi.mutable_at(i, axis) = s.box.hi[a];
            sum.mutable_at(i, axis) = s.sum[a];
        }
    }
    return py::make_tuple(label, voxels, lo, hi, sum);
}

struct AnyComponents {};  // what find_components returns, whatever the width of the labels

template <class T>
struct FoundComponents : AnyComponents, Components<T> {
    using Components<T>::Components;
};

template <class T>
void bind_components(py::module_& m, const char* name) {
    py::class_<FoundComponents<T>, AnyComponents>(m, name)
        .def("__len__", [](const FoundComponents<T>& c) { return c.size(); })
        .def("write",
             [](const FoundComponents<T>& c, py::array out) {
                 by_width(out, [&](auto zero) {
                     using Out = decltype(zero);
                     const Grid<Out> grid = output_like<Out>(out, c.given_shape());
                     py::gil_scoped_release release;
                     c.write(grid, [](kidseg::RunId i) { return static_cast<Out>(i + 1); });
                 });
             })
        .def("stats", [](const FoundComponents<T>& c) { return stats_of<T>(c); });
}

py::object find_components(const py::array& labels, int connectivity, bool foreground, int threads) {
    return by_width(labels, [&](auto zero) -> py::object {
        using T = decltype(zero);
        const auto grid = input<T>(labels);
        std::unique_ptr<FoundComponents<T>> found;
        {
            py::gil_scoped_release release;
            found = std::make_unique<FoundComponents<T>>(grid, connectivity, foreground ? RunsOf::foreground : RunsOf::each_label, threads);
        }
        return py::cast(std::move(found));
    });
}

void keep(const py::array& labels, py::array out, Index k, Index min_voxels, int connectivity, bool foreground, int threads) {
    by_width(labels, [&](auto zero) {
        using T = decltype(zero);
        const auto in = input<T>(labels);
        const auto to = output_like<T>(out, in.shape);
        py::gil_scoped_release release;
        const Components<T> components(in, connectivity, foreground ? RunsOf::foreground : RunsOf::each_label, threads);
        const auto kept = k > 0 ? kidseg::largest(components, k) : kidseg::at_least(components, min_voxels);
        components.copy_kept(in, to, [&](kidseg::RunId c) { return kept[c] != 0; });
    });
}

void fill_holes(const py::array& labels, py::array out, bool flat, int threads) {
    by_width(labels, [&](auto zero) {
        using T = decltype(zero);
        const auto in = input<T>(labels);
        const auto to = output_like<T>(out, in.shape);
        py::gil_scoped_release release;
        kidseg::fill_holes(in, to, flat, threads);
    });
}

std::optional<Box> box_of(const py::array& mask) {
    return by_width(mask, [&](auto zero) {
        using T = decltype(zero);
        const auto grid = input<T>(mask);
        py::gil_scoped_release release;
        return kidseg::foreground_box(grid);
    });
}

py::object bounding_box(const py::array& mask) {
    const auto box = box_of(mask);
    return box ? py::object(py::make_tuple(box->lo, box->hi)) : py::none();
}

void crop(const py::array& volume, const std::vector<Index3>& corners, std::vector<py::array> rois, const py::array& fill, int threads) {
    by_width(volume, [&](auto zero) {
        using T = decltype(zero);
        const auto in = input<T>(volume);
        if (fill.size() != 1 || fill.itemsize() != static_cast<py::ssize_t>(sizeof(T)) || corners.size() != rois.size())
            throw std::invalid_argument("_kernels.crop: need one fill value of the volume's type and a corner for each roi");
        const T value = *static_cast<const T*>(fill.data());
        std::vector<Grid<T>> out;
        for (py::array& roi : rois) out.push_back(output<T>(roi));
        py::gil_scoped_release release;
        kidseg::for_each_task(out.size(), threads, [&](std::size_t i) {
            kidseg::crop(in, Box{corners[i], {}}, out[i], value);
        });
    });
}

void paste(py::array volume, const Index3& corner, const py::array& roi) {
    by_width(volume, [&](auto zero) {
        using T = decltype(zero);
        const auto out = output<T>(volume);
        const auto in = input<T>(roi);
        py::gil_scoped_release release;
        kidseg::paste(out, Box{corner, {}}, in);
    });
}

kidseg::BitGrid bits_of(const py::array& mask, const Box& box) {
    return by_width(mask, [&](auto zero) {
        using T = decltype(zero);
        const auto grid = input<T>(mask);
        py::gil_scoped_release release;
        return kidseg::BitGrid(grid, box);
    });
}

py::tuple surface_distances(const py::array& a, const py::array& b, const Spacing& spacing, int definition, int threads) {
    const auto box_a = box_of(a), box_b = box_of(b);
    kidseg::SurfacePair pair;
    if (box_a || box_b) {
        Box box = box_a ? *box_a : *box_b;
        if (box_a && box_b)
            for (std::size_t i = 0; i < 3; ++i) {
                box.lo[i] = std::min(box.lo[i], box_b->lo[i]);
                box.hi[i] = std::max(box.hi[i], box_b->hi[i]);
            }
        const kidseg::BitGrid bits_a = bits_of(a, box), bits_b = bits_of(b, box);
        py::gil_scoped_release release;
        pair = kidseg::surface_distances(bits_a, bits_b, spacing, static_cast<kidseg::Definition>(definition), threads);
    }
    return py::make_tuple(array_of(pair.a_to_b.distance_mm), array_of(pair.a_to_b.weight), array_of(pair.b_to_a.distance_mm),
                          array_of(pair.b_to_a.weight));
}

py::array_t<double> surface_points(const py::array& mask, Index n, std::uint64_t seed, const Spacing& spacing) {
    const auto box = box_of(mask);
    std::vector<kidseg::Point> points;
    if (box) {
        const kidseg::BitGrid bits = bits_of(mask, *box);
        py::gil_scoped_release release;
        points = kidseg::surface_points(bits, n, seed, spacing);
        for (auto& p : points)
            for (std::size_t a = 0; a < 3; ++a) p[a] += static_cast<double>(box->lo[a] - 1) * spacing[a];
    }
    py::array_t<double> out({static_cast<py::ssize_t>(points.size()), py::ssize_t{3}});
    std::copy_n(points.empty() ? nullptr : points[0].data(), 3 * points.size(), out.mutable_data());
    return out;
}

kidseg::Taps3 taps_of(const std::array<std::vector<double>, 3>& coordinates, const Index3& shape, const Spacing& widths) {
    kidseg::Taps3 taps;
    for (std::size_t a = 0; a < 3; ++a) taps[a] = kidseg::box_taps(coordinates[a], shape[a], widths[a]);
    return taps;
}

template <class T>
py::array_t<T> empty_output(const std::array<std::vector<double>, 3>& coordinates) {
    std::vector<py::ssize_t> shape;
    for (const auto& axis : coordinates) shape.push_back(static_cast<py::ssize_t>(axis.size()));
    return py::array_t<T>(shape);
}

template <class T>
py::array_t<float> resample(const py::array& volume, const std::array<std::vector<double>, 3>& coordinates, const Spacing& widths,
                            int threads) {
    const auto in = input<T>(volume);
    auto out = empty_output<float>(coordinates);
    float* to = out.mutable_data();
    py::gil_scoped_release release;
    kidseg::resample(in, taps_of(coordinates, in.shape, widths), to, threads);
    return out;
}

py::array_t<std::uint8_t> argmax_resample(const py::array_t<float>& scores, const std::array<std::vector<double>, 3>& coordinates,
                                          int threads) {
    if (scores.ndim() != 4 || scores.shape(0) > 256) throw std::invalid_argument("_kernels.argmax_resample: need (c, z, y, x)");
    kidseg::Scores in{scores.data(), scores.shape(0), scores.strides(0) / 4, {}, {}};
    for (py::ssize_t a = 0; a < 3; ++a) {
        in.shape[static_cast<std::size_t>(a)] = scores.shape(a + 1);
        in.stride[static_cast<std::size_t>(a)] = scores.strides(a + 1) / 4;
    }
    auto out = empty_output<std::uint8_t>(coordinates);
    std::uint8_t* to = out.mutable_data();
    py::gil_scoped_release release;
    kidseg::argmax_resample(in, taps_of(coordinates, in.shape, {1, 1, 1}), to, threads);
    return out;
}

}  // namespace

PYBIND11_MODULE(_kernels, m) {
    m.doc() = "Compiled kernels; kidseg_jax.kernels is their public face.";
    py::class_<AnyComponents>(m, "Components");
    bind_components<std::uint8_t>(m, "Components8");
    bind_components<std::uint16_t>(m, "Components16");
    bind_components<std::uint32_t>(m, "Components32");
    bind_components<std::uint64_t>(m, "Components64");
    m.def("find_components", &find_components, "labels"_a, "connectivity"_a, "foreground"_a, "threads"_a);
    m.def("keep", &keep, "labels"_a, "out"_a, "k"_a, "min_voxels"_a, "connectivity"_a, "foreground"_a, "threads"_a);
    m.def("fill_holes", &fill_holes, "labels"_a, "out"_a, "flat"_a, "threads"_a);
    m.def("bounding_box", &bounding_box, "mask"_a);
    m.def("crop", &crop, "volume"_a, "corners"_a, "rois"_a, "fill"_a, "threads"_a);
    m.def("paste", &paste, "volume"_a, "corner"_a, "roi"_a);
    m.def("surface_distances", &surface_distances, "a"_a, "b"_a, "spacing_mm"_a, "definition"_a, "threads"_a);
    m.def("surface_points", &surface_points, "mask"_a, "n"_a, "seed"_a, "spacing_mm"_a);
    m.def("resample_int16", &resample<std::int16_t>, "volume"_a, "coordinates"_a, "widths"_a, "threads"_a);
    m.def("resample_float32", &resample<float>, "volume"_a, "coordinates"_a, "widths"_a, "threads"_a);
    m.def("argmax_resample", &argmax_resample, "scores"_a, "coordinates"_a, "threads"_a);
}
