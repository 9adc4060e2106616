#ifndef TIMEWARP_MOVED_REGION_H_
#define TIMEWARP_MOVED_REGION_H_

#include "Bounds.h"
#include "SystemState.h"
#include "internal/windowsExportTimewarp.h"
#include <ATen/ATen.h>
#include <vector>

namespace TimewarpPlugin {

/**
 * Conformations of the moved particles, and a point near them.
 */
struct EXPORT_TIMEWARP MovedRegion {
    /** As they were given, [B, M, 3] (nm). */
    at::Tensor absolute;
    /** Relative to the point, [B, M, 3] (nm). */
    at::Tensor positions;
    /** The point (nm). */
    OpenMM::Vec3 center;
    /** Of the positions. */
    Bounds bounds;
    /**
     * @param positions   [B, M, 3], all finite (nm)
     * @param box         if there is one, each particle is put into the image that is nearest to the point
     */
    MovedRegion(const at::Tensor& positions, const PeriodicBox* box);
    /**
     * Visit all images of other particles that are within a distance of some conformation, in ascending order
     * of the particles.
     *
     * @param without    particles that are not visited, in ascending order
     * @param distance   in nm; 0 visits all particles
     * @param box        NULL if they have no images
     * @param visit      is given the particle, and where the image is, relative to the region's point (nm)
     */
    template <class Visit>
    void visitNeighbors(const SystemState& state, const std::vector<int>& without, double distance,
                        const PeriodicBox* box, Visit visit) const {
        auto next = without.begin();
        for (int i = 0; i < (int)state.positions.size(); i++) {
            if (next != without.end() && *next == i) {
                ++next;
                continue;
            }
            const OpenMM::Vec3 p = state.positions[i] - center;
            if (distance == 0)
                visit(i, p);
            else
                bounds.visitNear(p, distance, box, [&](const OpenMM::Vec3& image) { visit(i, image); });
        }
    }
    /**
     * Get the particles that have such an image, in ascending order.
     */
    std::vector<int> findNeighbors(const SystemState& state, const std::vector<int>& without, double distance,
                                   const PeriodicBox* box) const;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_MOVED_REGION_H_*/
