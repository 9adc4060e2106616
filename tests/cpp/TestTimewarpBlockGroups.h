/*
 * Tries of several blocks that the System's energy decides on together.
 */
#include "BlockGroup.h"
#include "TimewarpTestBlocks.h"

using TimewarpPlugin::BatchEnergy;
using TimewarpPlugin::BlockGroup;
using TimewarpPlugin::Move;
using TimewarpPlugin::ProposalBatch;
using TimewarpPlugin::Record;

using Order = std::function<std::vector<int>()>;

/**
 * Two particles in one well, which repel each other along x: strongly, so that each feels well where the
 * other is.
 */
struct RepelledAlongX : public Target {
    const double k = 300, height = 8 * KT, reach = 0.27;
    RepelledAlongX() : Target(2) {
    }
    std::unique_ptr<System> createSystem() const override {
        auto system = std::make_unique<System>();
        auto* well = new CustomExternalForce("0.5*k*(x^2+y^2+z^2)");
        well->addGlobalParameter("k", k);
        auto* pair = new CustomCompoundBondForce(2, "height*max(0,1-abs(x1-x2)/reach)^2");
        pair->addGlobalParameter("height", height);
        pair->addGlobalParameter("reach", reach);
        pair->addBond({0, 1}, {});
        for (int i = 0; i < numParticles; i++) {
            system->addParticle(10.0);
            well->addParticle(i);
        }
        system->addForce(well);
        system->addForce(pair);
        return system;
    }
    double wells(const std::vector<Vec3>& p) const {
        return 0.5 * k * (p[0].dot(p[0]) + p[1].dot(p[1]));
    }
    double repulsion(const std::vector<Vec3>& p) const {
        const double inside = std::max(0.0, 1 - std::fabs(p[0][0] - p[1][0]) / reach);
        return height * inside * inside;
    }
    double energy(const std::vector<Vec3>& p) const override {
        return wells(p) + repulsion(p);
    }
    /** By integration over the distance along x. */
    double meanRepulsion() const {
        double sum = 0, weights = 0;
        for (double d = -1; d < 1; d += 1e-5) {
            const double repelled = repulsion({Vec3(d, 0, 0), Vec3()});
            const double weight = std::exp(-(0.25 * k * d * d + repelled) / KT);
            sum += weight * repelled;
            weights += weight;
        }
        return sum / weights;
    }
    std::vector<Vec3> drawPositions(std::mt19937& random) const override {
        return drawTwoInAWell(k, [this](const std::vector<Vec3>& p) { return repulsion(p); }, random);
    }
};

/**
 * A poor energy for a block of them, so that there is much left to decide: with the repulsion as many times
 * as a factor says.  With a factor of its own for each block, these are no parts of one function.
 */
class Poor : public BatchEnergy {
public:
    Poor(const std::vector<int>& particles, double factor) : particles(particles), factor(factor) {
    }
    std::string getDigest() const override {
        return "poor";
    }
    bool feelsSurroundings() const override {
        return true;
    }
    bool lookAtSurroundings(const DeviceLoan&, const TimewarpPlugin::Target& target) override {
        target.getContext().getPositions(positions);
        return true;
    }
    std::string describe() const override {
        return "a poor energy";
    }
    std::string getRemedy() const override {
        return "";
    }
    void compute(const DeviceLoan&, const ProposalBatch& batch, int numAtoms, const Vec3& origin,
                 std::vector<double>& energies) override {
        energies.clear();
        const double* x = batch.positions.data();
        for (int i = 0; i < batch.size; i++) {
            std::vector<Vec3> proposal;
            for (int atom = 0; atom < numAtoms; atom++, x += 3)
                proposal.push_back(origin + Vec3(x[0], x[1], x[2]));
            energies.push_back(energy(proposal));
        }
    }
    double compute(const DeviceLoan&, const std::vector<Vec3>& block) override {
        return energy(block);
    }

private:
    double energy(const std::vector<Vec3>& block) {
        std::vector<Vec3> all = positions;
        for (size_t i = 0; i < particles.size(); i++)
            all[particles[i]] = block[i];
        return target.wells(all) + factor * target.repulsion(all);
    }
    const RepelledAlongX target;
    std::vector<int> particles;
    double factor;
    std::vector<Vec3> positions;
};

/** The fault: what the blocks were decided by is not looked at. */
class ForgetsSurrogate : public BlockGroup {
protected:
    double logAcceptance(TimewarpPlugin::Target& target, double energyChange, double) const override {
        return BlockGroup::logAcceptance(target, energyChange, 0);
    }
};

/** The fault: the pair of the two particles is counted for each of them. */
class CountsPairsTwice : public BlockGroup {
public:
    void begin(const TimewarpPlugin::Target& target) override {
        BlockGroup::begin(target);
        before = pairEnergy(target);
    }

protected:
    double logAcceptance(TimewarpPlugin::Target& target, double energyChange,
                         double surrogateChange) const override {
        return BlockGroup::logAcceptance(target, energyChange, surrogateChange + pairEnergy(target) - before);
    }

private:
    static double pairEnergy(const TimewarpPlugin::Target& target) {
        std::vector<Vec3> p;
        target.getContext().getPositions(p);
        return RepelledAlongX().repulsion(p);
    }
    double before = 0;
};

/**
 * The moves of some blocks, which one group tries in some order.
 */
struct Together {
    std::vector<std::unique_ptr<DelayedAcceptance>> moves;
    std::unique_ptr<BlockGroup> group;
    Order order;

    void attempt(TimewarpPlugin::Target& target) {
        const std::vector<int> chosen = order();
        for (int i : chosen)
            moves[i]->lookForGroup(target);
        group->begin(target);
        for (int i : chosen)
            moves[i]->attemptIn(*group, target);
        group->decide(target);
    }
};

/** Stands for one of them in a chain: to try it is to try the group. */
class OneOfThem : public Move {
public:
    OneOfThem(std::shared_ptr<Together> all, int index) : all(all), index(index) {
    }
    const std::vector<int>& getMoved() const override {
        return one().getMoved();
    }
    void look(TimewarpPlugin::Target& target) override {
        one().look(target);
    }
    void attempt(TimewarpPlugin::Target& target) override {
        all->attempt(target);
    }
    void writeVelocities(TimewarpPlugin::Target& target, bool always) override {
        one().writeVelocities(target, always);
    }
    const MoveCounters& getCounters() const override {
        return one().getCounters();
    }
    Record save(ContextImpl& context) const override {
        return one().save(context);
    }
    void check(const Record& record) const override {
        one().check(record);
    }
    void resume(ContextImpl& context, const Record& record) override {
        one().resume(context, record);
    }

private:
    DelayedAcceptance& one() const {
        return *all->moves[index];
    }
    std::shared_ptr<Together> all;
    int index;
};

/** Let the chain try all blocks in groups, with poor energies of some factors. */
template <class Group>
void tryTogether(BlockChain<>& chain, const std::vector<double>& factors, int subchainLength,
                 const Order& order) {
    auto all = std::make_shared<Together>();
    all->group = std::make_unique<Group>();
    all->order = order;
    chain.around = [=](ContextImpl& context, const BlockAtoms& atoms, std::unique_ptr<FlowMove> flow) {
        const int index = all->moves.size();
        auto energy = std::make_shared<Poor>(atoms.particles, factors[index]);
        all->moves.push_back(std::make_unique<DelayedAcceptance>(std::move(flow), energy));
        all->moves.back()->setSubchainLength(subchainLength);
        return std::make_unique<OneOfThem>(all, index);
    };
}

/** So many, each picked for itself. */
Order picked(int number) {
    auto random = std::make_shared<std::mt19937>(7);
    return [=] {
        std::vector<int> chosen;
        for (int i = 0; i < number; i++)
            chosen.push_back((*random)() >> 8 & 1);
        return chosen;
    };
}

Order always(const std::vector<int>& order) {
    return [=] { return order; };
}

/**
 * The mean of a quantity, from means over parts of a chain.
 */
struct MeanOfParts {
    std::vector<double> parts;

    /** Get how many standard errors it is from its exact value. */
    double deviation(double exact) const {
        double mean = 0, square = 0;
        for (double part : parts) {
            mean += part / parts.size();
            square += part * part / parts.size();
        }
        return (mean - exact) / std::sqrt((square - mean * mean) / (parts.size() - 1));
    }
};

/**
 * Check the mean energy of the repulsion, and that both particles are as far from the middle, which they are
 * by symmetry.  The false-alarm rate is 1e-5 for each (Student's distribution of 29 degrees of freedom).
 */
template <class Group = BlockGroup>
void checkTogether(const std::vector<double>& factors, const Order& order, Platform& platform,
                   const std::vector<TestBlock>& blocks = {{"affine", {0}}, {"affine", {1}}}) {
    const int numParts = 30, numGroups = 20;
    RepelledAlongX target;
    auto system = target.createSystem();
    BlockChain<> integrator(blocks, 6, 5);
    tryTogether<Group>(integrator, factors, 3, order);
    Context context(*system, integrator, platform);
    context.setPositions({Vec3(-0.1, 0, 0), Vec3(0.1, 0, 0)});
    integrator.step(20);
    MeanOfParts repulsion, farther;
    for (int part = 0; part < numParts; part++) {
        repulsion.parts.push_back(0);
        farther.parts.push_back(0);
        for (int i = 0; i < numGroups; i++) {
            integrator.step(1);
            const auto p = context.getState(State::Positions).getPositions();
            repulsion.parts.back() += target.repulsion(p) / numGroups;
            farther.parts.back() += (p[0][0] * p[0][0] - p[1][0] * p[1][0]) / numGroups;
        }
    }
    for (size_t i = 0; i < blocks.size(); i++)
        ASSERT(integrator.getCounters(i).numAccepted > 30);
    for (double deviation : {repulsion.deviation(target.meanRepulsion()), farther.deviation(0)})
        if (std::fabs(deviation) > 5.3)
            throw OpenMMException("a mean is " + std::to_string(deviation) + " standard errors off");
}

/**
 * Start from exact draws, and compare the repulsion after some groups with that of other exact draws: what an
 * order that is always the same changes is seen late in a chain, where few groups are accepted.
 */
void checkFromExactDraws(const Order& order, Platform& platform) {
    RepelledAlongX target;
    auto system = target.createSystem();
    BlockChain<> integrator({{"affine", {0}}, {"affine", {1}}}, 6, 5);
    tryTogether<BlockGroup>(integrator, {3, 0}, 6, order);
    Context context(*system, integrator, platform);
    std::mt19937 random(3);
    std::vector<double> found, exact;
    for (int i = 0; i < 200; i++) {
        context.setPositions(target.drawPositions(random));
        integrator.step(8);
        found.push_back(target.repulsion(context.getState(State::Positions).getPositions()));
    }
    for (int i = 0; i < 6000; i++)
        exact.push_back(target.repulsion(target.drawPositions(random)));
    assertSameDistribution(found, exact);
}

void testMeanEnergy(Platform& platform) {
    checkTogether({0, 2}, picked(2), platform);
    checkTogether({2, 0.5}, picked(3), platform, {{"affine", {0, 1}}, {"affine", {1}}});
}

void testFaultsAreSeen(Platform& platform) {
    const std::string found = "standard errors off";
    assertThrows([&] { checkTogether<ForgetsSurrogate>({3, 0}, picked(2), platform); }, found);
    assertThrows([&] { checkTogether<CountsPairsTwice>({1, 1}, picked(2), platform); }, found);
    assertThrows([&] { checkFromExactDraws(always({0, 1}), platform); }, "distributions differ");
}

/** Notes in which order moves are tried in groups, and does nothing else. */
class Noted : public Move {
public:
    Noted(std::unique_ptr<FlowMove> flow, int index, std::vector<int>& order)
            : flow(std::move(flow)), index(index), order(order) {
    }
    const std::vector<int>& getMoved() const override {
        return moved;
    }
    void look(TimewarpPlugin::Target&) override {
    }
    void attempt(TimewarpPlugin::Target&) override {
    }
    bool canBeInGroup(const TimewarpPlugin::Target&) const override {
        return true;
    }
    void attemptIn(BlockGroup&, TimewarpPlugin::Target&) override {
        order.push_back(index);
    }
    const MoveCounters& getCounters() const override {
        return counters;
    }
    Record save(ContextImpl&) const override {
        return Record("Noted");
    }
    void check(const Record&) const override {
    }
    void resume(ContextImpl&, const Record&) override {
    }

private:
    /** Not used. */
    std::unique_ptr<FlowMove> flow;
    int index;
    std::vector<int>& order;
    std::vector<int> moved;
    MoveCounters counters;
};

/**
 * A chain picks any order as often as its opposite, by the weights of the blocks: each of 27 orders has its
 * share within 4.8 standard errors (1e-5 false alarms in all).
 */
void testOrders(Platform& platform) {
    const int numGroups = 30000, length = 3;
    const double weights[] = {1, 2, 0.5};
    std::vector<int> order;
    std::map<std::vector<int>, int> counts;
    auto system = RepelledAlongX().createSystem();
    BlockChain<> integrator({{"affine", {0}, 1}, {"affine", {0}, 2}, {"affine", {0}, 0.5}}, 1, 5);
    int index = 0;
    integrator.around = [&](ContextImpl&, const BlockAtoms&, std::unique_ptr<FlowMove> flow) {
        return std::make_unique<Noted>(std::move(flow), index++, order);
    };
    integrator.blocksPerTry = length;
    Context context(*system, integrator, platform);
    context.setPositions({Vec3(-0.1, 0, 0), Vec3(0.1, 0, 0)});
    for (int i = 0; i < numGroups; i++) {
        order.clear();
        integrator.step(1);
        ASSERT_EQUAL(length, (int)order.size());
        counts[order]++;
    }
    for (int code = 0; code < 27; code++) {
        const std::vector<int> of{code % 3, code / 3 % 3, code / 9};
        double share = 1;
        for (int i : of)
            share *= weights[i] / 3.5;
        ASSERT(std::fabs(counts[of] - numGroups * share) < 4.8 * std::sqrt(numGroups * share * (1 - share)));
    }
}

/** Fails now and then, when all blocks have moved. */
class Fails : public BlockGroup {
protected:
    double logAcceptance(TimewarpPlugin::Target& target, double energyChange,
                         double surrogateChange) const override {
        if (++calls % 3 == 0)
            throw OpenMMException("a decision that fails");
        return BlockGroup::logAcceptance(target, energyChange, surrogateChange);
    }

private:
    mutable int calls = 0;
};

/**
 * A group that is rejected, or that fails, leaves positions as they were, and what is counted.
 */
void testWayBack(Platform& platform) {
    auto system = RepelledAlongX().createSystem();
    BlockChain<> integrator({{"affine", {0}}, {"affine", {1}}}, 8, 5);
    tryTogether<Fails>(integrator, {3, 0}, 2, picked(4));
    Context context(*system, integrator, platform);
    context.setPositions({Vec3(-0.1, 0, 0), Vec3(0.1, 0, 0)});
    auto numAccepted = [&] {
        return integrator.getCounters(0).numAccepted + integrator.getCounters(1).numAccepted;
    };
    int numBack = 0, numFailed = 0;
    for (int i = 0; i < 200; i++) {
        const auto before = context.getState(State::Positions).getPositions();
        const auto acceptedBefore = numAccepted();
        bool failed = false;
        try {
            integrator.step(1);
        }
        catch (const OpenMMException&) {
            failed = true;
        }
        const bool isSame = (context.getState(State::Positions).getPositions() == before);
        ASSERT(isSame == (numAccepted() == acceptedBefore));
        ASSERT(isSame || !failed);
        numBack += isSame;
        numFailed += failed;
    }
    ASSERT(numFailed > 50 && numBack > numFailed + 20 && numBack < 190);
}

/** As the integrator makes them. */
void testIntegrator(Platform& platform) {
    RepelledAlongX target;
    auto system = target.createSystem();
    TimewarpMCMCIntegrator integrator(TEMPERATURE);
    addBlocks(integrator, {{"affine", {0}}, {"affine", {1}, 0.5}});
    integrator.setRandomNumberSeed(5);
    integrator.setRigidMoves(0, 0);
    integrator.setSubchainLength(2);
    integrator.setProposalsPerStep(20);
    integrator.setBlocksPerTry(3);
    Context context(*system, integrator, platform);
    context.setPositions({Vec3(-0.1, 0, 0), Vec3(0.1, 0, 0)});
    integrator.step(1);
    ASSERT_EQUAL(20 * 3, integrator.getBlockNumTried(0) + integrator.getBlockNumTried(1));
    checkInvariance(target, context, [&] { integrator.step(1); });

    std::stringstream checkpoint;
    context.createCheckpoint(checkpoint);
    integrator.step(10);
    const auto expected = context.getState(State::Positions).getPositions();
    context.loadCheckpoint(checkpoint);
    integrator.step(10);
    ASSERT(context.getState(State::Positions).getPositions() == expected);
}

/**
 * A molecule whose place nothing moves is refused in a group, too, also where blocks before it have moved and
 * the energy is not known: wells feel where it lies.
 */
void testPlacesThatNothingMoves(Platform& platform) {
    CoupledOscillators target(5);
    auto system = target.createSystem();
    for (int seed = 1; seed <= 6; seed++) {
        TimewarpMCMCIntegrator integrator(TEMPERATURE);
        addBlocks(integrator, {{"affine", {4}}, {"framed", {0, 1, 2, 3}, 0.3}});
        integrator.setRandomNumberSeed(seed);
        integrator.setRigidMoves(0, 0);
        integrator.setBlocksPerTry(20);
        Context context(*system, integrator, platform);
        std::mt19937 random(seed);
        context.setPositions(target.drawPositions(random));
        assertThrows([&] { integrator.step(5); }, "depends on where the molecule lies");
    }
}

void testWhatIsRefused(Platform& platform) {
    auto system = RepelledAlongX().createSystem();
    TimewarpMCMCIntegrator integrator(TEMPERATURE);
    assertThrows([&] { integrator.setBlocksPerTry(0); }, "blocks in a try must be positive");
    for (bool screening : {false, true}) {
        TimewarpMCMCIntegrator refused(TEMPERATURE);
        addBlocks(refused, {{"affine", {0}}, {"affine", {1}}});
        refused.setBlocksPerTry(2);
        refused.setScreening(screening);
        Context context(*system, refused, platform);
        context.setPositions({Vec3(-0.1, 0, 0), Vec3(0.1, 0, 0)});
        assertThrows([&] { refused.step(1); }, "call setBlocksPerTry(1)");
        refused.setBlocksPerTry(1);
        refused.step(1);
    }
}

void runTests(Platform& platform) {
    testWayBack(platform);
    testWhatIsRefused(platform);

    // Decisions are those of Reference, and what is seen of faults is a matter of chance where chains are
    // others.

    if (platform.getName() != "Reference")
        return;
    testIntegrator(platform);
    testPlacesThatNothingMoves(platform);
    testMeanEnergy(platform);
    testFaultsAreSeen(platform);
    testOrders(platform);
}
