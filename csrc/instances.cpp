#include "components.hpp"

namespace kidseg {

template class Components<std::uint8_t>;
template class Components<std::uint16_t>;
template class Components<std::uint32_t>;
template class Components<std::uint64_t>;

}  // namespace kidseg
