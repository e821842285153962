// Components and clean-up as XLA custom calls on the CPU.
#include <algorithm>
#include <cstdint>

#include "cleanup.hpp"
#include "ffi_buffers.hpp"
#include "instances.hpp"

namespace kidseg::calls {

namespace {

RunsOf runs_of(const Buffer& labels, bool foreground) {
    return foreground || labels.element_type() == ffi::PRED ? RunsOf::foreground : RunsOf::each_label;
}

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

}  // namespace kidseg::calls
