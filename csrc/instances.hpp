// The heavy templates for the four widths of labels, compiled once for both faces.
#pragma once

#include "components.hpp"

namespace kidseg {

extern template class Components<std::uint8_t>;
extern template class Components<std::uint16_t>;
extern template class Components<std::uint32_t>;
extern template class Components<std::uint64_t>;

}  // namespace kidseg
