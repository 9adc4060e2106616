#ifndef TIMEWARP_TEST_SCREENING_H_
#define TIMEWARP_TEST_SCREENING_H_

#include "LocalScreening.h"
#include "TimewarpTestBlocks.h"

using TimewarpPlugin::BatchEnergy;
using TimewarpPlugin::LocalEnergy;
using TimewarpPlugin::LocalScreening;
using TimewarpPlugin::ProposalBatch;
using TimewarpPlugin::SharedSystemState;
using TimewarpPlugin::SystemTerms;

using MakeEnergy = std::function<std::unique_ptr<BatchEnergy>()>;

/**
 * An energy around the local one of a block, to plant faults in.
 */
class Screening : public BatchEnergy {
public:
    explicit Screening(const MakeEnergy& makeLocal) : energy(makeLocal()) {
    }
    std::string getDigest() const override {
        return energy->getDigest();
    }
    bool feelsSurroundings() const override {
        return true;
    }
    bool lookAtSurroundings(const DeviceLoan& loan, const TimewarpPlugin::Target& target) override {
        return energy->lookAtSurroundings(loan, target);
    }
    std::string describe() const override {
        return energy->describe();
    }
    std::string getRemedy() const override {
        return energy->getRemedy();
    }
    void compute(const DeviceLoan& loan, const ProposalBatch& batch, int numAtoms, const Vec3& origin,
                 std::vector<double>& energies) override {
        energy->compute(loan, batch, numAtoms, origin, energies);
    }
    double compute(const DeviceLoan& loan, const std::vector<Vec3>& positions) override {
        return energy->compute(loan, positions);
    }

protected:
    std::unique_ptr<BatchEnergy> energy;
};

/**
 * Test the proposals of each block with its local energy first.
 */
template <class ScreeningEnergy> void screen(BlockChain<>& chain) {
    auto state = std::make_shared<SharedSystemState>();
    chain.around = [=](ContextImpl& context, const BlockAtoms& atoms, std::unique_ptr<FlowMove> flow) {
        TimewarpStateKernel& kernel = flow->getPositions().getKernel();
        auto terms = std::make_shared<SystemTerms>(context.getSystem(), -1);
        auto energy = std::make_shared<ScreeningEnergy>([&] {
            auto local = std::make_unique<LocalEnergy>(terms, atoms.particles, atoms.moved);
            local->useDevice(DeviceLoan(kernel, context), kernel.getModelDevice());
            return std::make_unique<LocalScreening>(std::move(local), state);
        });
        return std::make_unique<DelayedAcceptance>(std::move(flow), energy);
    };
}

/** A soft repulsion, which ends at some distance. */
struct Repulsion {
    double height, reach;

    double operator()(const Vec3& difference) const {
        double inside = std::max(0.0, 1 - std::sqrt(difference.dot(difference)) / reach);
        return height * inside * inside;
    }
    template <class Force> void setParameters(Force& force) const {
        force.addGlobalParameter("height", height);
        force.addGlobalParameter("reach", reach);
    }
};

/**
 * Two particles in one well, which repel each other.
 */
struct TwoInAWell : public Target {
    const double k = 300;
    const Repulsion repulsion{3 * KT, 0.8};
    TwoInAWell() : Target(2) {
    }
    std::unique_ptr<System> createSystem() const override {
        auto system = std::make_unique<System>();
        auto* well = new CustomExternalForce("0.5*k*(x^2+y^2+z^2)");
        well->addGlobalParameter("k", k);
        auto* bond = new CustomBondForce("height*max(0,1-r/reach)^2");
        repulsion.setParameters(*bond);
        bond->addBond(0, 1, {});
        for (int i = 0; i < numParticles; i++) {
            system->addParticle(10.0);
            well->addParticle(i);
        }
        system->addForce(well);
        system->addForce(bond);
        return system;
    }
    double energy(const std::vector<Vec3>& p) const override {
        return 0.5 * k * (p[0].dot(p[0]) + p[1].dot(p[1])) + repulsion(p[0] - p[1]);
    }
    std::vector<Vec3> drawPositions(std::mt19937& random) const override {
        return drawTwoInAWell(
                k, [this](const std::vector<Vec3>& p) { return repulsion(p[0] - p[1]); }, random);
    }
};

#endif /*TIMEWARP_TEST_SCREENING_H_*/
