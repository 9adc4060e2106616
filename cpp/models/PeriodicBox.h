#ifndef TIMEWARP_PERIODIC_BOX_H_
#define TIMEWARP_PERIODIC_BOX_H_

#include "openmm/Vec3.h"
#include <array>

namespace TimewarpPlugin {

/** Vectors of a periodic box in reduced form (nm): a is along x, b in the plane of x and y. */
using PeriodicBox = std::array<OpenMM::Vec3, 3>;

} // namespace TimewarpPlugin

#endif /*TIMEWARP_PERIODIC_BOX_H_*/
