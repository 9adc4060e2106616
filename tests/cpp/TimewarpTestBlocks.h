#ifndef TIMEWARP_TEST_BLOCKS_H_
#define TIMEWARP_TEST_BLOCKS_H_

#include "TimewarpTestChain.h"
#include "TimewarpTestTargets.h"
#include <set>

/**
 * A block, as addBlock() takes it.
 */
struct TestBlock {
    std::string model;
    std::vector<int> particles;
    double weight = 1.0;
};

inline void addBlocks(TimewarpMCMCIntegrator& integrator, const std::vector<TestBlock>& blocks) {
    for (const TestBlock& block : blocks)
        integrator.addBlock(modelPath(block.model, block.particles.size()), block.particles, block.weight);
}

/**
 * An Integrator around a chain of several blocks, as TimewarpMCMCIntegrator is one, whose moves are of a
 * class of the test's own, and who gives them a wrong idea of where they stand if a test wants it.
 */
template <class Flow = FlowMove> class BlockChain : public Integrator {
public:
    TimewarpPlugin::DynamicsSettings dynamics;
    int proposalsPerStep = 1, blocksPerTry = 1;
    /** Plants a fault in what a block knows of its System. */
    std::function<void(ContextImpl&, const BlockAtoms&, BlockSurroundings&)> plant =
            [](ContextImpl&, const BlockAtoms&, BlockSurroundings&) {};
    /** Makes the move of a block from that of its flow. */
    std::function<std::unique_ptr<TimewarpPlugin::Move>(ContextImpl&, const BlockAtoms&,
                                                        std::unique_ptr<FlowMove>)>
            around = [](ContextImpl&, const BlockAtoms&, std::unique_ptr<FlowMove> flow) { return flow; };

    BlockChain(const std::vector<TestBlock>& blocks, int batchSize, int seed)
            : blocks(blocks), batchSize(batchSize), seed(seed) {
        setStepSize(1.0);
        setConstraintTolerance(1e-5);
    }
    /** Get what a block has done, also of the last Context after that is gone. */
    const MoveCounters& getCounters(int index) {
        return flows.empty() ? counters[index] : flows[index]->getCounters();
    }
    void step(int steps) override {
        for (Flow* flow : flows)
            flow->setBatchSize(batchSize);
        chain->run(*context,
                   {TEMPERATURE, getIntegrationForceGroups(), getStepSize(), NULL, proposalsPerStep, dynamics,
                    blocksPerTry},
                   steps);
    }

protected:
    void initialize(ContextImpl& contextRef) override {
        context = &contextRef;
        owner = &contextRef.getOwner();
        chain = std::make_unique<Chain>(0, "");
        chain->setSeed(seed, true);
        if (dynamics.steps > 0)
            chain->setDynamics(std::make_unique<TimewarpPlugin::LocalDynamics>(contextRef, seed));
        flows.clear();
        for (const TestBlock& block : blocks)
            addMove(contextRef, block);
    }
    void cleanup() override {
        counters.clear();
        for (Flow* flow : flows)
            counters.push_back(flow->getCounters());
        flows.clear();
        chain.reset();
    }
    std::vector<std::string> getKernelNames() override {
        return {TimewarpStateKernel::Name()};
    }
    double computeKineticEnergy() override {
        return 0;
    }
    bool kineticEnergyRequiresForce() const override {
        return false;
    }

private:
    std::shared_ptr<ProposalModel> modelOf(const TestBlock& block) {
        auto& model = models[modelPath(block.model, block.particles.size())];
        if (model == nullptr)
            model = std::make_shared<ProposalModel>(modelPath(block.model, block.particles.size()));
        return model;
    }
    void addMove(ContextImpl& contextRef, const TestBlock& block) {
        const System& system = contextRef.getSystem();
        auto model = modelOf(block);
        BlockAtoms atoms(block.particles);
        if (!model->getMetadata().anyMolecule)
            atoms.moved = model->getMetadata().moved;
        BlockSurroundings surroundings;
        surroundings.number = flows.size();
        surroundings.particles = atoms.particles;
        surroundings.movedAtoms = atoms.moved;
        for (int atom : atoms.moved)
            surroundings.moved.push_back(atoms.particles[atom]);
        surroundings.metric = TimewarpPlugin::ConstraintMetric(system, atoms.particles, atoms.moved);
        auto& stretches = model->getMetadata().stretches;
        for (auto& bond : surroundings.metric.getBonds())
            surroundings.keptStretches.push_back(std::find(stretches.begin(), stretches.end(), bond) -
                                                 stretches.begin());
        std::sort(surroundings.keptStretches.begin(), surroundings.keptStretches.end());
        std::set<int> redrawn(atoms.moved.begin(), atoms.moved.end());
        for (int atom : surroundings.metric.getAtoms())
            redrawn.insert(atom);
        atoms.redrawn.assign(redrawn.begin(), redrawn.end());
        surroundings.velocities = BlockVelocities(contextRef, atoms.particles, atoms.redrawn,
                                                  !surroundings.metric.getBonds().empty());
        surroundings.keptByOthers = [](ContextImpl&, const std::vector<Vec3>&, const DeviceLoan&) {
            return KeptMotions{false, false};
        };
        plant(contextRef, atoms, surroundings);
        Kernel kernel = contextRef.getPlatform().createKernel(TimewarpStateKernel::Name(), contextRef);
        kernel.getAs<TimewarpStateKernel>().initialize(system, atoms);
        auto flow = std::make_unique<Flow>(model, kernel, surroundings);
        flows.push_back(flow.get());
        chain->addMove(around(contextRef, atoms, std::move(flow)), block.weight);
    }

    std::vector<TestBlock> blocks;
    int batchSize, seed;
    std::map<std::string, std::shared_ptr<ProposalModel>> models;
    std::unique_ptr<Chain> chain;
    std::vector<Flow*> flows;
    std::vector<MoveCounters> counters;
};

/**
 * A move that takes for granted that nothing but itself changes the positions of its particles: the fault of
 * using what was prefetched from a state that is no more.
 */
class MoveThatDoesNotLook : public FlowMove {
public:
    using FlowMove::FlowMove;
    void look(TimewarpPlugin::Target& target) override {
        if (!hasLooked)
            FlowMove::look(target);
        hasLooked = true;
    }

private:
    bool hasLooked = false;
};

/**
 * What is compared with exact draws: the energy and some coordinates, and velocities where they are asked
 * for.
 */
struct BlockObservations {
    std::vector<std::vector<double>> columns;

    void add(const std::vector<double>& values) {
        columns.resize(values.size());
        for (size_t i = 0; i < values.size(); i++)
            columns[i].push_back(values[i]);
    }
    void addPositions(const Target& target, const std::vector<Vec3>& positions) {
        add({target.energy(positions), positions.front()[0], positions.front()[1], positions.back()[2]});
    }
    void assertSameAs(const BlockObservations& exact) const {
        for (size_t i = 0; i < columns.size(); i++)
            assertSameDistribution(columns[i], exact.columns[i]);
    }
};

/** Exact draws that chains start from, and those they are compared with. */
const int NUM_STARTS = 400, NUM_COMPARED = 6000;

/**
 * Apply steps to exact draws, in the manner of TestTimewarpInvariance.h, and compare with other exact draws.
 * False-alarm rate 1e-5 for each comparison.
 *
 * @param advance   does the steps
 */
inline void checkInvariance(const Target& target, Context& context, const std::function<void()>& advance) {
    std::mt19937 random(3);
    BlockObservations found, exact;
    for (int i = 0; i < NUM_STARTS; i++) {
        context.setPositions(target.drawPositions(random));
        advance();
        found.addPositions(target, context.getState(State::Positions).getPositions());
    }
    for (int i = 0; i < NUM_COMPARED; i++)
        exact.addPositions(target, target.drawPositions(random));
    found.assertSameAs(exact);
}

/**
 * Check that the mean of independent numbers of a known variance is what it should be, with a false-alarm
 * rate of 1e-5.
 */
inline void assertMean(const std::vector<double>& values, double mean, double variance) {
    double sum = std::accumulate(values.begin(), values.end(), 0.0);
    double deviation = (sum / values.size() - mean) / std::sqrt(variance / values.size());
    if (std::fabs(deviation) > 4.417)
        throw OpenMMException("a mean is " + std::to_string(deviation) + " standard errors off");
}

/**
 * A centre in a harmonic well, and atoms on springs around it: what the "spherical_star" models draw.
 */
struct SpringStar : public Target {
    double k, spring, length = 0.1;
    /**
     * The models' widths are 0.1 and 0.005 nm.
     *
     * @param wellWidth, springWidth   standard deviations of the centre's coordinates and of lengths (nm)
     */
    SpringStar(double wellWidth, double springWidth)
            : Target(4), k(KT / (wellWidth * wellWidth)), spring(KT / (springWidth * springWidth)) {
    }
    static std::vector<Vec3> start() {
        return {Vec3(), Vec3(0.1, 0, 0), Vec3(0, 0.1, 0), Vec3(0, 0, 0.1)};
    }
    std::unique_ptr<System> createSystem() const override {
        auto system = std::make_unique<System>();
        auto* well = new CustomExternalForce("0.5*k*(x^2+y^2+z^2)");
        well->addGlobalParameter("k", k);
        well->addParticle(0);
        auto* springs = new HarmonicBondForce();
        for (int i = 0; i < numParticles; i++)
            system->addParticle(12.0);
        for (int i = 1; i < numParticles; i++)
            springs->addBond(0, i, length, spring);
        system->addForce(well);
        system->addForce(springs);
        return system;
    }
    double energy(const std::vector<Vec3>& p) const override {
        double sum = 0.5 * k * p[0].dot(p[0]);
        for (int i = 1; i < numParticles; i++) {
            double stretch = std::sqrt((p[i] - p[0]).dot(p[i] - p[0])) - length;
            sum += 0.5 * spring * stretch * stretch;
        }
        return sum;
    }
    std::vector<Vec3> drawPositions(std::mt19937& random) const override {
        std::normal_distribution<double> normal;
        auto spread = [&](double width) {
            return Vec3(normal(random), normal(random), normal(random)) * width;
        };
        std::vector<Vec3> positions{spread(std::sqrt(KT / k))};
        double low = length - 8 * std::sqrt(KT / spring), high = length + 8 * std::sqrt(KT / spring);
        auto effective = [&](double r) {
            double stretch = r - length;
            return 0.5 * spring * stretch * stretch - 2 * KT * std::log(r / high);
        };
        for (int i = 1; i < numParticles; i++) {
            Vec3 direction = spread(1.0);
            double r = drawByRejection(effective, low, high, random);
            positions.push_back(positions[0] + direction * (r / std::sqrt(direction.dot(direction))));
        }
        return positions;
    }
};

/**
 * A block that moves a whole star, and one that moves the atoms around its centre, which it sees as context.
 *
 * @param weight    of the first; that of the second is 1
 * @param prepare   changes the chain before it is used
 */
template <class Flow>
void checkMoleculeAndPart(
        const SpringStar& target, double weight, int batchSize, int proposals, Platform& platform,
        const std::function<void(BlockChain<Flow>&)>& prepare = [](BlockChain<Flow>&) {}) {
    auto system = target.createSystem();
    BlockChain<Flow> integrator(
            {{"spherical_star", {0, 1, 2, 3}, weight}, {"spherical_star_on_context", {0, 1, 2, 3}}},
            batchSize, 5);
    integrator.proposalsPerStep = proposals;
    prepare(integrator);
    Context context(*system, integrator, platform);
    context.setPositions(SpringStar::start());
    integrator.step(2);
    checkInvariance(target, context, [&] { integrator.step(1); });
    for (int i : {0, 1})
        ASSERT(integrator.getCounters(i).numAccepted > 100);
}

#endif /*TIMEWARP_TEST_BLOCKS_H_*/
