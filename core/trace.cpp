#include "core/trace.h"

namespace ito::trace {

const char* name_of(Kind kind) {
    switch (kind) {
        case Kind::phase:
            return "phase";
        case Kind::layer:
            return "layer";
        case Kind::op:
            return "op";
        case Kind::backward:
            return "backward";
        case Kind::kernel:
            break;
    }
    return "kernel";
}

}  // namespace ito::trace
