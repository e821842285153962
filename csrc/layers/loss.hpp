// The sums over voxels that Dice and cross-entropy are made of, and their gradient in the logits, in one pass each.
// Sums are taken slice by slice in a fixed order: no result depends on the number of threads.
#pragma once

#include <cstdint>
#include <cstring>

#include "layers/loops.hpp"

namespace kidseg::layers {

namespace detail {

constexpr Index tile = 64;  // voxels

struct LossSettings {
    Index classes;
    bool squared;  // whether the size is the sum of squared probabilities
};

struct LossInner {
    void (*add_regions)(const float*, const std::int32_t*, Index, const LossSettings&, float*, float*);
    void (*region_gradient)(const float*, const std::int32_t*, Index, const LossSettings&, const float*, float*, float*,
                            float*);
};

#define KIDSEG_LOOPS "layers/loss-inl.hpp"
#include "layers/each_instruction_set.hpp"

}  // namespace detail

// sums (class, 4): probability on the class's voxels, probability everywhere (`squared`: its square), voxels, -log p on
// them. labels: one for each voxel, those outside the classes are in none.
inline void region_sums(const Features& logits, const std::int32_t* labels, bool squared, float* sums,
                        const Machine& machine) {
    const auto inner = detail::loops_of<detail::LossInner>(machine.isa);
    const Index slices = logits.shape.slices(), plane = logits.shape.plane(), n = 4 * logits.channels;
    std::vector<double> parts(static_cast<std::size_t>(slices * n));
    machine.parallel(slices, [&](Index z) {
        std::vector<float> probs(static_cast<std::size_t>(logits.channels * detail::tile));
        std::vector<float> lanes(static_cast<std::size_t>(n * detail::tile));
        for (Index i = 0; i < plane; i += detail::tile)
            inner.add_regions(logits.slice(z) + i * logits.channels, labels + z * plane + i,
                              std::min(detail::tile, plane - i), {logits.channels, squared}, probs.data(),
                              lanes.data());
        for (std::size_t i = 0; i < lanes.size(); ++i)
            parts[static_cast<std::size_t>(z * n) + i / static_cast<std::size_t>(detail::tile)] += double{lanes[i]};
    });
    for (Index k = 0; k < n; ++k) {
        double sum = 0;
        for (Index z = 0; z < slices; ++z) sum += parts[static_cast<std::size_t>(z * n + k)];
        sums[k] = static_cast<float>(sum);
    }
}

// out = the gradient of sum(g * region_sums(logits)) in the logits.
inline void region_gradient(const Features& logits, const std::int32_t* labels, bool squared, const float* g,
                            const NewFeatures& out, const Machine& machine) {
    const auto inner = detail::loops_of<detail::LossInner>(machine.isa);
    const Index plane = logits.shape.plane();
    machine.parallel(logits.shape.slices(), [&](Index z) {
        std::vector<float> probs(static_cast<std::size_t>(logits.channels * detail::tile)), slopes(probs.size());
        for (Index i = 0; i < plane; i += detail::tile) {
            const Index at = i * logits.channels;
            inner.region_gradient(logits.slice(z) + at, labels + z * plane + i, std::min(detail::tile, plane - i),
                                  {logits.channels, squared}, g, probs.data(), slopes.data(), out.slice(z) + at);
        }
    });
}

}  // namespace kidseg::layers
