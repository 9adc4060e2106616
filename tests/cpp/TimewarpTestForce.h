#ifndef TIMEWARP_TEST_FORCE_H_
#define TIMEWARP_TEST_FORCE_H_

#include "TimewarpTestUtilities.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/internal/ForceImpl.h"

/**
 * A Force without energy that counts how often it is asked for it, complains of positions that are not
 * finite, and does what a test wants when the Context's state is updated.
 */
class WatchForce : public Force {
public:
    mutable int numEnergies = 0;
    /** Returns whether it has changed the state. */
    std::function<bool(ContextImpl&)> update = [](ContextImpl&) { return false; };

    bool usesPeriodicBoundaryConditions() const override {
        return false;
    }

protected:
    ForceImpl* createImpl() const override;
};

class WatchForceImpl : public ForceImpl {
public:
    explicit WatchForceImpl(const WatchForce& owner) : owner(owner) {
    }
    const WatchForce& getOwner() const override {
        return owner;
    }
    void initialize(ContextImpl& context) override {
    }
    void updateContextState(ContextImpl& context, bool& forcesInvalid) override {
        if (owner.update(context))
            forcesInvalid = true;
    }
    double calcForcesAndEnergy(ContextImpl& context, bool includeForces, bool includeEnergy,
                               int groups) override {
        owner.numEnergies++;
        std::vector<Vec3> positions;
        context.getPositions(positions);
        for (const Vec3& p : positions)
            if (!std::isfinite(p[0] + p[1] + p[2]))
                throw OpenMMException("a position that is not finite has reached the energy");
        return 0.0;
    }
    std::map<std::string, double> getDefaultParameters() override {
        return {};
    }
    std::vector<std::string> getKernelNames() override {
        return {};
    }

private:
    const WatchForce& owner;
};

inline ForceImpl* WatchForce::createImpl() const {
    return new WatchForceImpl(*this);
}

#endif /*TIMEWARP_TEST_FORCE_H_*/
