#ifndef TIMEWARP_KEPT_MOTIONS_H_
#define TIMEWARP_KEPT_MOTIONS_H_

#include "internal/windowsExportTimewarp.h"
#include "openmm/Vec3.h"
#include <vector>

namespace TimewarpPlugin {

/**
 * Which rigid motions of a molecule no proposal of a flow ever makes.
 */
struct KeptMotions {
    /** An atom, or the centroid, stays where it is. */
    bool place = true;
    /** So do the directions of a frame of three atoms. */
    bool orientation = true;

    bool any() const {
        return place || orientation;
    }
    /**
     * Keep only what another source of moves keeps, too.
     */
    void join(const KeptMotions& other) {
        place = place && other.place;
        orientation = orientation && other.orientation;
    }
};

/**
 * Find what proposals have in common with the state that they were made from.
 *
 * @param x           positions of the state, N (nm)
 * @param proposals   proposed positions (nm), each N
 */
KeptMotions EXPORT_TIMEWARP findKeptMotions(const std::vector<OpenMM::Vec3>& x,
                                            const std::vector<std::vector<OpenMM::Vec3>>& proposals);

} // namespace TimewarpPlugin

#endif /*TIMEWARP_KEPT_MOTIONS_H_*/
