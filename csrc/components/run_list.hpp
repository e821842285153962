// Growing lists in blocks that never move, so that growing copies nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "components/runs.hpp"

namespace kidseg {

template <class T>
class Blocks {
public:
    template <class From>
    void append(const From* values, std::size_t n) {
        while (n > 0) {
            if (blocks_.empty() || blocks_.back().size() == block_size) {
                blocks_.emplace_back();
                blocks_.back().reserve(block_size);
            }
            auto& block = blocks_.back();
            const std::size_t m = std::min(n, block_size - block.size());
            for (std::size_t i = 0; i < m; ++i) block.push_back(static_cast<T>(values[i]));
            values += m;
            n -= m;
        }
    }
    [[nodiscard]] std::size_t size() const {
        return blocks_.empty() ? 0 : (blocks_.size() - 1) * block_size + blocks_.back().size();
    }
    [[nodiscard]] const T& operator[](std::size_t i) const { return blocks_[i / block_size][i % block_size]; }

private:
    static constexpr std::size_t block_size = std::size_t{1} << 15;
    std::vector<std::vector<T>> blocks_;
};

// Runs at 4 bytes each where rows are at most 65535 voxels long, else at 8.
class RunList {
public:
    explicit RunList(Index row_length = 0) : narrow_(row_length <= std::numeric_limits<std::uint16_t>::max()) {}

    void append(const Run* runs, std::size_t n) {
        if (narrow_) narrow_runs_.append(runs, n);
        else wide_runs_.append(runs, n);
    }
    [[nodiscard]] Run operator[](std::size_t i) const {
        if (!narrow_) return wide_runs_[i];
        const NarrowRun run = narrow_runs_[i];
        return {run.begin, run.end};
    }

private:
    struct NarrowRun {
        NarrowRun() = default;
        explicit NarrowRun(const Run& run)
            : begin(static_cast<std::uint16_t>(run.begin)), end(static_cast<std::uint16_t>(run.end)) {}
        std::uint16_t begin, end;
    };

    bool narrow_;
    Blocks<NarrowRun> narrow_runs_;
    Blocks<Run> wide_runs_;
};

}  // namespace kidseg
