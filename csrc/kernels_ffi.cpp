// The kernels as XLA custom calls on the CPU: buffers are wrapped as grids where they lie. Loaded by kernels/ffi.py,
// which checks shapes and types; no Python here.
#include <algorithm>
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include "xla/ffi/api/ffi.h"
#pragma GCC diagnostic pop

#include "argmax.hpp"
#include "cleanup.hpp"
#include "instances.hpp"
#include "roi.hpp"
#include "sampling.hpp"
#include "surface.hpp"

namespace ffi = xla::ffi;

namespace {

using kidseg::Box;
using kidseg::Components;
using kidseg::Grid;
using kidseg::Index;
using kidseg::Index3;
using kidseg::RunsOf;
using Buffer = ffi::AnyBuffer;
using Result = ffi::Result<ffi::AnyBuffer>;
using Ints = ffi::Result<ffi::Buffer<ffi::S32>>;
using Floats = ffi::Result<ffi::Buffer<ffi::F32>>;

template <class T>
Grid<T> grid_of(const Buffer& buffer) {
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
ffi::Error guarded(F&& f) {
    try {
        f();
        return ffi::Error::Success();
    } catch (const std::exception& error) {
        return ffi::Error::InvalidArgument(error.what());
    }
}

RunsOf runs_of(const Buffer& labels, bool foreground) {
    return foreground || labels.element_type() == ffi::PRED ? RunsOf::foreground : RunsOf::each_label;
}

kidseg::Spacing spacing_of(ffi::Span<const double> spacing_mm) {
    if (spacing_mm.size() != 3) throw std::invalid_argument("spacing_mm must be 3 numbers");
    return {spacing_mm[0], spacing_mm[1], spacing_mm[2]};
}

Index3 index_of(const ffi::Buffer<ffi::S32>& corner) {
    const std::int32_t* v = corner.typed_data();
    return {v[0], v[1], v[2]};
}

kidseg::BitGrid bits_of(const Buffer& mask, const Box& box) {
    kidseg::BitGrid bits;
    by_width(mask, [&](auto zero) { bits = kidseg::BitGrid(grid_of<const decltype(zero)>(mask), box); });
    return bits;
}

Box whole(const Buffer& mask) { return {{0, 0, 0}, grid_of<const char>(mask).shape}; }

ffi::Error label_components(Buffer labels, Ints out, Ints count, std::int64_t connectivity, std::int64_t threads) {
    return guarded([&] {
        by_width(labels, [&](auto zero) {
            using T = decltype(zero);
            const auto in = grid_of<const T>(labels);
            const Components<T> found(in, static_cast<int>(connectivity), runs_of(labels, false), static_cast<int>(threads));
            std::fill_n(out->typed_data(), out->element_count(), 0);
            const Grid<std::int32_t> to{out->typed_data(), in.shape, in.stride};
            found.write(to, [](kidseg::RunId c) { return static_cast<std::int32_t>(c + 1); });
            *count->typed_data() = static_cast<std::int32_t>(found.size());
        });
    });
}

ffi::Error component_stats(Buffer labels, Ints label, Ints voxels, Ints lo, Ints hi, Floats centroid, Ints count,
                           std::int64_t connectivity, std::int64_t threads) {
    return guarded([&] {
        by_width(labels, [&](auto zero) {
            using T = decltype(zero);
            const Components<T> found(grid_of<const T>(labels), static_cast<int>(connectivity), runs_of(labels, false),
                                      static_cast<int>(threads));
            const auto stats = found.stats();
            const auto labels_of = found.source_labels();
            const auto capacity = static_cast<std::size_t>(label->dimensions()[0]);
            const auto clear = [](auto& result) { std::fill_n(result->typed_data(), result->element_count(), 0); };
            clear(label), clear(voxels), clear(lo), clear(hi), clear(centroid);
            for (std::size_t i = 0; i < std::min(capacity, stats.size()); ++i) {
                const auto& s = stats[i];
                label->typed_data()[i] = labels.element_type() == ffi::PRED ? 1 : static_cast<std::int32_t>(labels_of[i]);
                voxels->typed_data()[i] = static_cast<std::int32_t>(s.voxels);
                for (std::size_t a = 0; a < 3; ++a) {
                    lo->typed_data()[3 * i + a] = static_cast<std::int32_t>(s.box.lo[a]);
                    hi->typed_data()[3 * i + a] = static_cast<std::int32_t>(s.box.hi[a]);
                    centroid->typed_data()[3 * i + a] =
                        static_cast<float>(static_cast<double>(s.sum[a]) / static_cast<double>(s.voxels));
                }
            }
            *count->typed_data() = static_cast<std::int32_t>(stats.size());
        });
    });
}

ffi::Error keep(Buffer labels, Result out, std::int64_t k, std::int64_t min_voxels, std::int64_t connectivity, bool foreground,
                std::int64_t threads) {
    return guarded([&] {
        by_width(labels, [&](auto zero) {
            using T = decltype(zero);
            const auto in = grid_of<const T>(labels);
            const Components<T> found(in, static_cast<int>(connectivity), runs_of(labels, foreground), static_cast<int>(threads));
            const auto kept = k > 0 ? kidseg::largest(found, k) : kidseg::at_least(found, min_voxels);
            const auto to = grid_of<T>(*out);
            std::fill_n(to.data, out->element_count(), T{});
            found.copy_kept(in, to, [&](kidseg::RunId c) { return kept[c] != 0; });
        });
    });
}

ffi::Error fill_holes(Buffer labels, Result out, bool flat, std::int64_t threads) {
    return guarded([&] {
        by_width(labels, [&](auto zero) {
            using T = decltype(zero);
            const auto in = grid_of<const T>(labels);
            const auto to = grid_of<T>(*out);
            std::copy_n(in.data, labels.element_count(), to.data);
            kidseg::fill_holes(in, to, flat, static_cast<int>(threads));
        });
    });
}

ffi::Error bounding_box(Buffer mask, Ints lo, Ints hi) {
    return guarded([&] {
        by_width(mask, [&](auto zero) {
            const auto box = kidseg::foreground_box(grid_of<const decltype(zero)>(mask));
            for (std::size_t a = 0; a < 3; ++a) {
                lo->typed_data()[a] = box ? static_cast<std::int32_t>(box->lo[a]) : 0;
                hi->typed_data()[a] = box ? static_cast<std::int32_t>(box->hi[a]) : 0;
            }
        });
    });
}

ffi::Error crop_roi(Buffer volume, ffi::Buffer<ffi::S32> corner, Buffer fill, Result roi) {
    return guarded([&] {
        by_width(volume, [&](auto zero) {
            using T = decltype(zero);
            kidseg::crop(grid_of<const T>(volume), Box{index_of(corner), {}}, grid_of<T>(*roi), *static_cast<const T*>(fill.untyped_data()));
        });
    });
}

ffi::Error paste_roi(Buffer volume, Buffer roi, ffi::Buffer<ffi::S32> corner, Result out) {
    return guarded([&] {
        by_width(volume, [&](auto zero) {
            using T = decltype(zero);
            const auto in = grid_of<const T>(volume);
            const auto to = grid_of<T>(*out);
            if (to.data != in.data) std::copy_n(in.data, volume.element_count(), to.data);
            kidseg::paste(to, Box{index_of(corner), {}}, grid_of<const T>(roi));
        });
    });
}

ffi::Error surface_distances(Buffer a, Buffer b, Floats distances, Floats weights, Ints counts, ffi::Span<const double> spacing_mm,
                             std::int64_t definition, std::int64_t threads) {
    return guarded([&] {
        const auto pair = kidseg::surface_distances(bits_of(a, whole(a)), bits_of(b, whole(b)), spacing_of(spacing_mm),
                                                    static_cast<kidseg::Definition>(definition), static_cast<int>(threads));
        const auto capacity = static_cast<std::size_t>(distances->dimensions()[1]);
        std::fill_n(distances->typed_data(), 2 * capacity, 0.0f);
        std::fill_n(weights->typed_data(), 2 * capacity, 0.0f);
        std::size_t row = 0;
        for (const auto* side : {&pair.a_to_b, &pair.b_to_a}) {
            const std::size_t n = std::min(capacity, side->distance_mm.size());
            const auto narrow = [](double v) { return static_cast<float>(v); };
            std::transform(side->distance_mm.begin(), side->distance_mm.begin() + static_cast<std::ptrdiff_t>(n),
                           distances->typed_data() + row * capacity, narrow);
            std::transform(side->weight.begin(), side->weight.begin() + static_cast<std::ptrdiff_t>(n),
                           weights->typed_data() + row * capacity, narrow);
            counts->typed_data()[row++] = static_cast<std::int32_t>(side->distance_mm.size());
        }
    });
}

ffi::Error surface_points(Buffer mask, Floats points, std::int64_t seed, ffi::Span<const double> spacing_mm) {
    return guarded([&] {
        const auto spacing = spacing_of(spacing_mm);
        const auto found = kidseg::surface_points(bits_of(mask, whole(mask)), points->dimensions()[0], static_cast<std::uint64_t>(seed), spacing);
        std::fill_n(points->typed_data(), points->element_count(), std::numeric_limits<float>::quiet_NaN());
        for (std::size_t i = 0; i < found.size(); ++i)
            for (std::size_t a = 0; a < 3; ++a) points->typed_data()[3 * i + a] = static_cast<float>(found[i][a] - spacing[a]);
    });
}

kidseg::Taps3 taps_of(const Index3& shape, const kidseg::Spacing& widths, const ffi::Buffer<ffi::F32>& cz,
                      const ffi::Buffer<ffi::F32>& cy, const ffi::Buffer<ffi::F32>& cx) {
    kidseg::Taps3 taps;
    const ffi::Buffer<ffi::F32>* axes[] = {&cz, &cy, &cx};
    for (std::size_t a = 0; a < 3; ++a) {
        const std::vector<double> c(axes[a]->typed_data(), axes[a]->typed_data() + axes[a]->element_count());
        if (!std::all_of(c.begin(), c.end(), [](double v) { return std::isfinite(v); }))
            throw std::invalid_argument("coordinates must be finite");
        taps[a] = kidseg::box_taps(c, shape[a], widths[a]);
    }
    return taps;
}

ffi::Error argmax_resample(ffi::Buffer<ffi::F32> scores, ffi::Buffer<ffi::F32> cz, ffi::Buffer<ffi::F32> cy, ffi::Buffer<ffi::F32> cx,
                           ffi::Result<ffi::Buffer<ffi::U8>> out, bool channels_last, std::int64_t threads) {
    return guarded([&] {
        const auto n = scores.dimensions();
        kidseg::Scores in;
        in.data = scores.typed_data();
        if (channels_last) {
            in.shape = {n[0], n[1], n[2]};
            in.stride = {n[1] * n[2] * n[3], n[2] * n[3], n[3]};
            in.classes = n[3];
            in.class_stride = 1;
        } else {
            in.shape = {n[1], n[2], n[3]};
            in.stride = {n[2] * n[3], n[3], 1};
            in.classes = n[0];
            in.class_stride = n[1] * n[2] * n[3];
        }
        kidseg::argmax_resample(in, taps_of(in.shape, {1, 1, 1}, cz, cy, cx), out->typed_data(), static_cast<int>(threads));
    });
}

ffi::Error resample_linear(ffi::Buffer<ffi::F32> volume, ffi::Buffer<ffi::F32> cz, ffi::Buffer<ffi::F32> cy, ffi::Buffer<ffi::F32> cx,
                           Floats out, ffi::Span<const double> widths, std::int64_t threads) {
    return guarded([&] {
        const auto n = volume.dimensions();
        const Grid<const float> in{volume.typed_data(), {n[0], n[1], n[2]}, {n[1] * n[2], n[2], 1}};
        kidseg::resample(in, taps_of(in.shape, spacing_of(widths), cz, cy, cx), out->typed_data(), static_cast<int>(threads));
    });
}

using I32 = ffi::Buffer<ffi::S32>;
using F32 = ffi::Buffer<ffi::F32>;

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    kidseg_label_components, label_components,
    ffi::Ffi::Bind().Arg<Buffer>().Ret<I32>().Ret<I32>().Attr<std::int64_t>("connectivity").Attr<std::int64_t>("threads"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    kidseg_component_stats, component_stats,
    ffi::Ffi::Bind().Arg<Buffer>().Ret<I32>().Ret<I32>().Ret<I32>().Ret<I32>().Ret<F32>().Ret<I32>().Attr<std::int64_t>("connectivity")
        .Attr<std::int64_t>("threads"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    kidseg_keep, keep,
    ffi::Ffi::Bind().Arg<Buffer>().Ret<Buffer>().Attr<std::int64_t>("k").Attr<std::int64_t>("min_voxels").Attr<std::int64_t>("connectivity")
        .Attr<bool>("foreground").Attr<std::int64_t>("threads"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    kidseg_fill_holes, fill_holes,
    ffi::Ffi::Bind().Arg<Buffer>().Ret<Buffer>().Attr<bool>("flat").Attr<std::int64_t>("threads"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(kidseg_bounding_box, bounding_box, ffi::Ffi::Bind().Arg<Buffer>().Ret<I32>().Ret<I32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(kidseg_crop_roi, crop_roi, ffi::Ffi::Bind().Arg<Buffer>().Arg<I32>().Arg<Buffer>().Ret<Buffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(kidseg_paste_roi, paste_roi, ffi::Ffi::Bind().Arg<Buffer>().Arg<Buffer>().Arg<I32>().Ret<Buffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    kidseg_surface_distances, surface_distances,
    ffi::Ffi::Bind().Arg<Buffer>().Arg<Buffer>().Ret<F32>().Ret<F32>().Ret<I32>().Attr<ffi::Span<const double>>("spacing_mm")
        .Attr<std::int64_t>("definition").Attr<std::int64_t>("threads"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    kidseg_surface_points, surface_points,
    ffi::Ffi::Bind().Arg<Buffer>().Ret<F32>().Attr<std::int64_t>("seed").Attr<ffi::Span<const double>>("spacing_mm"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    kidseg_argmax_resample, argmax_resample,
    ffi::Ffi::Bind().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Ret<ffi::Buffer<ffi::U8>>().Attr<bool>("channels_last")
        .Attr<std::int64_t>("threads"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    kidseg_resample_linear, resample_linear,
    ffi::Ffi::Bind().Arg<F32>().Arg<F32>().Arg<F32>().Arg<F32>().Ret<F32>().Attr<ffi::Span<const double>>("widths")
        .Attr<std::int64_t>("threads"));
