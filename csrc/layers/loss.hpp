// The sums over voxels that Dice and cross-entropy are made of, and their gradient in the logits, in one pass each. Sums
// are taken slice by slice in a fixed order: no result depends on the number of threads.
#pragma once

#include "layers/convolution.hpp"

namespace kidseg::layers {

struct LossSettings {
    Index classes;
    bool squared;  // whether the size is the sum of squared probabilities
};

namespace detail {

constexpr Index block = 64;

struct LossInner {
    void (*add_regions)(const float*, const std::int32_t*, Index, const LossSettings&, float*, float*);
    void (*region_gradient)(const float*, const std::int32_t*, Index, const LossSettings&, const float*, float*, float*, float*);
};

#define KIDSEG_LOOPS "layers/loss-inl.hpp"
#include "layers/each_instruction_set.hpp"

}  // namespace detail

// sums (class, 4): probability on the class's voxels, (squared) probability everywhere, voxels, -log p on them.
// logits (slices, plane, classes); labels (slices, plane), those outside the classes are in none.
inline void region_sums(const float* logits, const std::int32_t* labels, Index slices, Index plane, const LossSettings& s,
                        float* sums, const Parallel& parallel, Isa isa = Isa::best) {
    const auto inner = detail::loops_of<detail::LossInner>(isa);
    const Index n = 4 * s.classes;
    std::vector<double> parts(static_cast<std::size_t>(slices * n));
    parallel(slices, [&](Index z) {
        std::vector<float> probs(static_cast<std::size_t>(s.classes * detail::block));
        std::vector<float> lanes(static_cast<std::size_t>(n * detail::block));
        for (Index i = 0; i < plane; i += detail::block) {
            const Index at = z * plane + i;
            inner.add_regions(logits + at * s.classes, labels + at, std::min(detail::block, plane - i), s, probs.data(),
                              lanes.data());
        }
        for (std::size_t i = 0; i < lanes.size(); ++i)
            parts[static_cast<std::size_t>(z * n) + i / static_cast<std::size_t>(detail::block)] += double{lanes[i]};
    });
    for (Index k = 0; k < n; ++k) {
        double sum = 0;
        for (Index z = 0; z < slices; ++z) sum += parts[static_cast<std::size_t>(z * n + k)];
        sums[k] = static_cast<float>(sum);
    }
}

// out = the gradient of sum(g * region_sums(logits)) in the logits.
inline void region_gradient(const float* logits, const std::int32_t* labels, Index slices, Index plane, const LossSettings& s,
                            const float* g, float* out, const Parallel& parallel, Isa isa = Isa::best) {
    const auto inner = detail::loops_of<detail::LossInner>(isa);
    parallel(slices, [&](Index z) {
        std::vector<float> probs(static_cast<std::size_t>(s.classes * detail::block)), slopes(probs.size());
        for (Index i = 0; i < plane; i += detail::block) {
            const Index at = z * plane + i;
            inner.region_gradient(logits + at * s.classes, labels + at, std::min(detail::block, plane - i), s, g, probs.data(),
                                  slopes.data(), out + at * s.classes);
        }
    });
}

}  // namespace kidseg::layers
