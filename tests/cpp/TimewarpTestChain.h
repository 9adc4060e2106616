#ifndef TIMEWARP_TEST_CHAIN_H_
#define TIMEWARP_TEST_CHAIN_H_

#include "Chain.h"
#include "DelayedAcceptance.h"
#include "FlowMove.h"
#include "SurrogateEnergy.h"
#include "TimewarpKernels.h"
#include "TimewarpTestUtilities.h"
#include "openmm/internal/ContextImpl.h"

using TimewarpPlugin::BlockAtoms;
using TimewarpPlugin::BlockSurroundings;
using TimewarpPlugin::BlockVelocities;
using TimewarpPlugin::Chain;
using TimewarpPlugin::DelayedAcceptance;
using TimewarpPlugin::DeviceLoan;
using TimewarpPlugin::Draws;
using TimewarpPlugin::FlowMove;
using TimewarpPlugin::KeptMotions;
using TimewarpPlugin::MoveCounters;
using TimewarpPlugin::ProposalInputs;
using TimewarpPlugin::ProposalModel;
using TimewarpPlugin::SurrogateEnergy;
using TimewarpPlugin::TimewarpStateKernel;

/**
 * An Integrator around a chain of one move, of a class of the test's own to plant faults in and to look on.
 * Tests put flows that keep the molecule's place into wells, and move it themselves.
 */
template <class Flow = FlowMove, class Delayed = DelayedAcceptance>
class ChainIntegrator : public Integrator {
public:
    ChainIntegrator(const std::string& modelPath, int batchSize, int seed)
            : model(std::make_shared<ProposalModel>(modelPath)), batchSize(batchSize), seed(seed) {
        setStepSize(1.0);
    }
    void setSurrogate(const std::string& content, int length) {
        surrogate = std::make_shared<SurrogateEnergy>(content);
        subchainLength = length;
    }
    ProposalModel& getModel() {
        return *model;
    }
    Flow& getMove() {
        return *flow;
    }
    Delayed& getDelayed() {
        return *delayed;
    }
    const MoveCounters& getCounters() {
        return flow->getCounters();
    }
    DeviceLoan lendDevice() {
        return DeviceLoan(kernel.getAs<TimewarpStateKernel>(), *context);
    }
    void step(int steps) override {
        flow->setBatchSize(batchSize);
        chain->run(*context, {TEMPERATURE, getIntegrationForceGroups(), getStepSize(), NULL}, steps);
    }

protected:
    /** Give the platform's kernel, or one around it. */
    virtual Kernel wrapped(const Kernel& kernel) {
        return kernel;
    }
    void initialize(ContextImpl& contextRef) override {
        context = &contextRef;
        owner = &contextRef.getOwner();
        std::vector<int> all(contextRef.getSystem().getNumParticles());
        std::iota(all.begin(), all.end(), 0);
        BlockAtoms atoms(all);
        BlockSurroundings surroundings;
        surroundings.particles = surroundings.moved = atoms.particles;
        surroundings.movedAtoms = atoms.moved;
        surroundings.velocities = BlockVelocities(contextRef, atoms.particles, atoms.redrawn, false);
        surroundings.keptByOthers = [](ContextImpl&, const std::vector<Vec3>&, const DeviceLoan&) {
            return KeptMotions{false, false};
        };
        kernel = wrapped(contextRef.getPlatform().createKernel(TimewarpStateKernel::Name(), contextRef));
        kernel.getAs<TimewarpStateKernel>().initialize(contextRef.getSystem(), atoms);
        chain = std::make_unique<Chain>(0, "");
        chain->setSeed(seed, true);
        auto newFlow = std::make_unique<Flow>(model, kernel, surroundings);
        flow = newFlow.get();
        if (surrogate == nullptr) {
            chain->addMove(std::move(newFlow));
            return;
        }
        auto newDelayed = std::make_unique<Delayed>(std::move(newFlow), surrogate);
        newDelayed->setSubchainLength(subchainLength);
        delayed = newDelayed.get();
        chain->addMove(std::move(newDelayed));
    }
    void cleanup() override {
        chain.reset();
        kernel = Kernel();
    }
    std::vector<std::string> getKernelNames() override {
        return {TimewarpStateKernel::Name()};
    }
    double computeKineticEnergy() override {
        return kernel.getAs<TimewarpStateKernel>().computeKineticEnergy(*context);
    }
    bool kineticEnergyRequiresForce() const override {
        return false;
    }

private:
    std::shared_ptr<ProposalModel> model;
    int batchSize, seed, subchainLength = 1;
    std::shared_ptr<SurrogateEnergy> surrogate;
    std::unique_ptr<Chain> chain;
    Flow* flow = nullptr;
    Delayed* delayed = nullptr;
    Kernel kernel;
};

#endif /*TIMEWARP_TEST_CHAIN_H_*/
