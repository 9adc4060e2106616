#ifndef TIMEWARP_RIGID_MOTION_H_
#define TIMEWARP_RIGID_MOTION_H_

#include "internal/windowsExportTimewarp.h"
#include "openmm/Vec3.h"
#include <vector>

namespace TimewarpPlugin {

/**
 * A displacement of a body and a turn about its centroid.
 */
struct EXPORT_TIMEWARP RigidMotion {
    /** In nm. */
    OpenMM::Vec3 displacement;
    /** Of length 1. */
    OpenMM::Vec3 axis{0, 0, 1};
    /** In radians. */
    double angle = 0;

    /**
     * Get where it puts the atoms of a body (nm).
     */
    std::vector<OpenMM::Vec3> apply(const std::vector<OpenMM::Vec3>& positions) const;
};

/**
 * Which rigid motions of a body are made, or count.
 */
struct RigidMotions {
    /** Displacements. */
    bool place = false;
    /** Turns. */
    bool orientation = false;

    bool any() const {
        return place || orientation;
    }
    /** Add others. */
    void join(const RigidMotions& others) {
        place = place || others.place;
        orientation = orientation || others.orientation;
    }
};

/**
 * How far a rigid move goes at most; 0 for those that are not to be made.
 */
struct RigidMoveSize {
    /** In nm. */
    double translation = 0;
    /** In radians. */
    double rotation = 0;

    bool allows(const RigidMotions& motions) const {
        return (translation > 0 || !motions.place) && (rotation > 0 || !motions.orientation);
    }
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_RIGID_MOTION_H_*/
