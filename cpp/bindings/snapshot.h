// A moment of an index, handed by the module _core to the module _cuda.
//
// Only _core makes one and looks ids up in it: both modules hold a copy of the library, and the locks of the core are
// those of _core. _cuda reads codes and ids of its segments.
#pragma once

#include "fasthash/search.h"
#include "segments/state.h"

namespace fasthash::python {

struct Snapshot {
    std::shared_ptr<const State> state;
    Metric metric;
};

}  // namespace fasthash::python
