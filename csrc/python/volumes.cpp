// Boxes in volumes and resampling onto them, for Python.
#include "resample/affine.hpp"
#include "resample/argmax.hpp"
#include "python/arrays.hpp"
#include "python/bindings.hpp"
#include "resample/boxes.hpp"

namespace py = pybind11;
using namespace py::literals;

std::optional<kidseg::Box> kidseg::box_of(const py::array& mask) {
    return by_width(mask, [&](auto zero) {
        using T = decltype(zero);
        const auto grid = input<T>(mask);
        py::gil_scoped_release release;
        return foreground_box(grid);
    });
}

namespace {

using kidseg::Box;
using kidseg::box_of;
using kidseg::by_width;
using kidseg::Grid;
using kidseg::Index3;
using kidseg::input;
using kidseg::output;
using kidseg::Spacing;

py::object bounding_box(const py::array& mask) {
    const auto box = box_of(mask);
    return box ? py::object(py::make_tuple(box->lo, box->hi)) : py::none();
}

void crop(const py::array& volume, const std::vector<Index3>& corners, std::vector<py::array> rois,
          const py::array& fill, int threads) {
    by_width(volume, [&](auto zero) {
        using T = decltype(zero);
        const auto in = input<T>(volume);
        if (fill.size() != 1 || fill.itemsize() != static_cast<py::ssize_t>(sizeof(T)) || corners.size() != rois.size())
            throw std::invalid_argument(
                "_kernels.crop: need one fill value of the volume's type and a corner for each roi");
        const T value = *static_cast<const T*>(fill.data());
        std::vector<Grid<T>> out;
        for (py::array& roi : rois) out.push_back(output<T>(roi));
        py::gil_scoped_release release;
        kidseg::for_each_task(out.size(), threads,
                              [&](std::size_t i) { kidseg::crop(in, Box{corners[i], {}}, out[i], value); });
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

kidseg::Taps3 taps_of(const std::array<std::vector<double>, 3>& coordinates, const Index3& shape,
                      const Spacing& widths) {
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
py::array_t<float> resample(const py::array& volume, const std::array<std::vector<double>, 3>& coordinates,
                            const Spacing& widths, int threads) {
    const auto in = input<T>(volume);
    auto out = empty_output<float>(coordinates);
    float* to = out.mutable_data();
    py::gil_scoped_release release;
    kidseg::resample(in, taps_of(coordinates, in.shape, widths), to, threads);
    return out;
}

py::array_t<std::uint8_t> argmax_resample(const py::array_t<float>& scores,
                                          const std::array<std::vector<double>, 3>& coordinates, int threads) {
    if (scores.ndim() != 4 || scores.shape(0) > 256)
        throw std::invalid_argument("_kernels.argmax_resample: need (c, z, y, x)");
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

template <class T>
void resample_affine(const py::array& volume, const std::array<std::array<double, 3>, 3>& matrix,
                     const std::array<double, 3>& offset, bool nearest, double fill, py::array to, int threads) {
    const auto in = input<T>(volume);
    const auto out = output<T>(to);
    py::gil_scoped_release release;
    kidseg::resample_affine(in, {matrix, offset}, nearest, static_cast<T>(fill), out, threads);
}

}  // namespace

void bind_rois(py::module_& m) {
    m.def("bounding_box", &bounding_box, "mask"_a);
    m.def("crop", &crop, "volume"_a, "corners"_a, "rois"_a, "fill"_a, "threads"_a);
    m.def("paste", &paste, "volume"_a, "corner"_a, "roi"_a);
    m.def("resample_int16", &resample<std::int16_t>, "volume"_a, "coordinates"_a, "widths"_a, "threads"_a);
    m.def("resample_float32", &resample<float>, "volume"_a, "coordinates"_a, "widths"_a, "threads"_a);
    m.def("resample_affine_uint8", &resample_affine<std::uint8_t>, "volume"_a, "matrix"_a, "offset"_a, "nearest"_a,
          "fill"_a, "to"_a, "threads"_a);
    m.def("resample_affine_int16", &resample_affine<std::int16_t>, "volume"_a, "matrix"_a, "offset"_a, "nearest"_a,
          "fill"_a, "to"_a, "threads"_a);
    m.def("resample_affine_float32", &resample_affine<float>, "volume"_a, "matrix"_a, "offset"_a, "nearest"_a, "fill"_a,
          "to"_a, "threads"_a);
    m.def("argmax_resample", &argmax_resample, "scores"_a, "coordinates"_a, "threads"_a);
}
