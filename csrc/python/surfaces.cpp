// Distances between the surfaces of masks and points on them, for Python.
#include <pybind11/native_enum.h>

#include "python/arrays.hpp"
#include "python/bindings.hpp"
#include "surfaces/points.hpp"
#include "surfaces/distances.hpp"

namespace py = pybind11;
using namespace py::literals;

namespace {

using kidseg::array_of;
using kidseg::Box;
using kidseg::box_of;
using kidseg::by_width;
using kidseg::Definition;
using kidseg::Index;
using kidseg::input;
using kidseg::Spacing;

kidseg::BitGrid bits_of(const py::array& mask, const Box& box) {
    return by_width(mask, [&](auto zero) {
        using T = decltype(zero);
        const auto grid = input<T>(mask);
        py::gil_scoped_release release;
        return kidseg::BitGrid(grid, box);
    });
}

py::tuple surface_distances(const py::array& a, const py::array& b, const Spacing& spacing, Definition definition,
                            int threads) {
    const auto box_a = box_of(a), box_b = box_of(b);
    kidseg::SurfacePair pair;
    if (box_a || box_b) {
        Box box = box_a ? *box_a : *box_b;
        if (box_a && box_b)
            for (std::size_t i = 0; i < 3; ++i) {
                box.lo[i] = std::min(box.lo[i], box_b->lo[i]);
                box.hi[i] = std::max(box.hi[i], box_b->hi[i]);
            }
        kidseg::BitGrid bits_a = bits_of(a, box), bits_b = bits_of(b, box);
        py::gil_scoped_release release;
        pair = kidseg::surface_distances(std::move(bits_a), std::move(bits_b), spacing, definition, threads);
    }
    const auto side = [](kidseg::SurfaceToSurface& s) {
        return py::make_tuple(array_of(std::move(s.distance_mm)), array_of(std::move(s.weight)));
    };
    return side(pair.a_to_b) + side(pair.b_to_a);
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

}  // namespace

void bind_surfaces(py::module_& m) {
    py::native_enum<Definition>(m, "Definition", "enum.Enum", "What is taken for the surface of a mask.")
        .value("border", Definition::border)
        .value("surfel", Definition::surfel)
        .value("triangle", Definition::triangle)
        .finalize();
    m.def("surface_distances", &surface_distances, "a"_a, "b"_a, "spacing_mm"_a, "definition"_a, "threads"_a);
    m.def("surface_points", &surface_points, "mask"_a, "n"_a, "seed"_a, "spacing_mm"_a);
}
