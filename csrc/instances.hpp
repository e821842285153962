// The heavy templates for the four widths of labels, compiled once for both faces.
#pragma once

#include "read_slab.hpp"
#include "roi.hpp"

namespace kidseg {

extern template void read_slab(Slab&, Blocks<std::uint8_t>&, const Grid<const std::uint8_t>&, int, RunsOf);
extern template void read_slab(Slab&, Blocks<std::uint16_t>&, const Grid<const std::uint16_t>&, int, RunsOf);
extern template void read_slab(Slab&, Blocks<std::uint32_t>&, const Grid<const std::uint32_t>&, int, RunsOf);
extern template void read_slab(Slab&, Blocks<std::uint64_t>&, const Grid<const std::uint64_t>&, int, RunsOf);

extern template std::optional<Box> foreground_box(const Grid<const std::uint8_t>&);
extern template std::optional<Box> foreground_box(const Grid<const std::uint16_t>&);
extern template std::optional<Box> foreground_box(const Grid<const std::uint32_t>&);
extern template std::optional<Box> foreground_box(const Grid<const std::uint64_t>&);

}  // namespace kidseg
