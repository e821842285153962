#include "read_slab.hpp"
#include "roi.hpp"

namespace kidseg {

template void read_slab(Slab&, Blocks<std::uint8_t>&, const Grid<const std::uint8_t>&, int, RunsOf);
template void read_slab(Slab&, Blocks<std::uint16_t>&, const Grid<const std::uint16_t>&, int, RunsOf);
template void read_slab(Slab&, Blocks<std::uint32_t>&, const Grid<const std::uint32_t>&, int, RunsOf);
template void read_slab(Slab&, Blocks<std::uint64_t>&, const Grid<const std::uint64_t>&, int, RunsOf);

template std::optional<Box> foreground_box(const Grid<const std::uint8_t>&);
template std::optional<Box> foreground_box(const Grid<const std::uint16_t>&);
template std::optional<Box> foreground_box(const Grid<const std::uint32_t>&);
template std::optional<Box> foreground_box(const Grid<const std::uint64_t>&);

}  // namespace kidseg
