#ifndef TIMEWARP_RIGID_MOVE_H_
#define TIMEWARP_RIGID_MOVE_H_

#include "BlockPositions.h"
#include "ConstraintMetric.h"
#include "IterationNoise.h"
#include "Move.h"
#include "RigidMotion.h"
#include "internal/windowsExportTimewarp.h"
#include <cstdint>
#include <vector>

namespace TimewarpPlugin {

/**
 * Displaces or turns some particles as one body, and accepts by the change of the energy alone.
 *
 * A displacement has a direction that is uniform on the sphere, and so has the axis of a turn about the
 * centroid.  A motion and its inverse are therefore equally likely, and every single one keeps volumes and
 * the distances within the body: see docs/theory.md.  How far it goes is drawn anew each time, log-uniformly
 * from two decades, so that some of the moves fit whatever holds the body, and nothing need be adapted.
 */
class EXPORT_TIMEWARP RigidMove : public Move {
public:
    /** What is added to the number of a block for the random numbers of its rigid moves. */
    static const std::uint16_t NUMBER = 0x8000;
    /**
     * @param number      its place among the moves of its chain, which gives it random numbers of its own
     * @param kernel      a TimewarpStateKernel, initialized for the particles, all of which are moved
     * @param particles   the particles
     * @param metric      of the particles' constraints
     * @param largest     how far it goes at most
     */
    RigidMove(std::uint16_t number, const OpenMM::Kernel& kernel, const std::vector<int>& particles,
              const ConstraintMetric& metric, const RigidMoveSize& largest);
    /**
     * Set which motions it makes from now on.
     */
    void setMotions(const RigidMotions& newMotions) {
        motions = newMotions;
    }
    const std::vector<int>& getMoved() const override {
        return particles;
    }
    void look(Target& target) override;
    void attempt(Target& target) override;
    const MoveCounters& getCounters() const override {
        return counters;
    }
    Record save(OpenMM::ContextImpl& context) const override;
    void check(const Record& record) const override {
        checkRecord(record);
    }
    static void checkRecord(const Record& record);
    void resume(OpenMM::ContextImpl& context, const Record& record) override;

protected:
    /**
     * Draw a motion.  Virtual, as logAcceptance() is, so that tests can plant faults.
     *
     * @param state   positions (nm), on which it must not depend
     */
    virtual RigidMotion draw(IterationNoise& noise, const std::vector<OpenMM::Vec3>& state) const;
    /**
     * Compute the logarithm of the acceptance ratio.
     *
     * @param energyChange   in kJ/mol
     */
    virtual double logAcceptance(double energyChange, double kT) const;

private:
    bool tryMotion(Target& target, const RigidMotion& motion, double logUniform);

    std::uint16_t number;
    BlockPositions positions;
    std::vector<int> particles;
    ConstraintMetric metric;
    RigidMoveSize largest;
    RigidMotions motions;
    MoveCounters counters;
    /** The number of the Target's state that was looked at last. */
    std::int64_t seen = -1;
    std::vector<double> proposal;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_RIGID_MOVE_H_*/
