/*
 * Constrained bonds: the measure of constrained dynamics, lengths that stay, and velocities that do not break
 * them.
 */
#include "TimewarpTestBlocks.h"

using TimewarpPlugin::ConstraintMetric;

/**
 * Heavy atoms and the hydrogens that constraints bind to them, each to its parent, with masses as they are
 * where those of hydrogens are repartitioned: with hydrogens of 4 dalton the carbon of a methyl group has 3.
 */
struct Hydrides {
    std::vector<int> parents;
    double hydrogenMass;
    std::vector<double> lengths;
    double spring = KT / (0.006 * 0.006), k = KT / (0.1 * 0.1);
    Vec3 place = Vec3(3, 2, 1);

    /** The "hydrogens" models' tree of this name (tests/python/reference_models.py). */
    explicit Hydrides(const std::string& tree, double hydrogenMass = 4.0) : hydrogenMass(hydrogenMass) {
        if (tree == "trimer")
            parents = {-1, 0, 0};
        else if (tree == "star")
            parents = {-1, 0, 0, 0};
        else
            parents = {-1, 0, 0, 0, 3, 3};
        for (size_t i = 0; i < parents.size(); i++)
            lengths.push_back(0.095 + 0.005 * i);
    }
    int size() const {
        return parents.size();
    }
    bool isHydrogen(int atom) const {
        return std::count(parents.begin(), parents.end(), atom) == 0;
    }
    std::vector<int> all() const {
        std::vector<int> atoms(size());
        std::iota(atoms.begin(), atoms.end(), 0);
        return atoms;
    }
    /** Masses that the hydrogens have not, the heavy atoms have, so that the sum is that of 12 and 1 dalton.
     */
    double mass(int atom) const {
        if (isHydrogen(atom))
            return hydrogenMass;
        double sum = 12.0;
        for (int i = 0; i < size(); i++)
            sum += (parents[i] == atom && isHydrogen(i)) * (1.0 - hydrogenMass);
        return sum;
    }
    /** Nothing acts on them but a well for the first atom, and springs between heavy atoms. */
    std::unique_ptr<System> createSystem() const {
        auto system = std::make_unique<System>();
        auto* well = new CustomExternalForce("0.5*k*((x-x0)^2+(y-y0)^2+(z-z0)^2)");
        well->addGlobalParameter("k", k);
        well->addGlobalParameter("x0", place[0]);
        well->addGlobalParameter("y0", place[1]);
        well->addGlobalParameter("z0", place[2]);
        well->addParticle(0);
        auto* springs = new HarmonicBondForce();
        for (int i = 0; i < size(); i++) {
            system->addParticle(mass(i));
            if (i > 0 && isHydrogen(i))
                system->addConstraint(parents[i], i, lengths[i]);
            else if (i > 0)
                springs->addBond(parents[i], i, 0.1, spring);
        }
        system->addForce(well);
        system->addForce(springs);
        return system;
    }
    /** Draw directions of the bonds uniformly, which is their distribution but for the metric. */
    std::vector<Vec3> drawUniformly(std::mt19937& random) const {
        std::normal_distribution<double> normal;
        std::vector<Vec3> positions{place};
        for (int i = 1; i < size(); i++) {
            Vec3 direction(normal(random), normal(random), normal(random));
            double length = (isHydrogen(i) ? lengths[i] : 0.1);
            positions.push_back(positions[parents[i]] +
                                direction * (length / std::sqrt(direction.dot(direction))));
        }
        return positions;
    }
    /** Get the largest relative error of a constrained bond's length. */
    double lengthError(const std::vector<Vec3>& p) const {
        double error = 0;
        for (int i = 1; i < size(); i++)
            if (isHydrogen(i)) {
                Vec3 bond = p[i] - p[parents[i]];
                error = std::max(error, std::fabs(std::sqrt(bond.dot(bond)) / lengths[i] - 1));
            }
        return error;
    }
};

/** Compute log det Z / 2 by differences and Gauss's elimination, in the definition's own words. */
double logMetric(const System& system, const std::vector<Vec3>& positions) {
    const double h = 1e-5;
    auto length = [&](int constraint, int particle, const Vec3& shift) {
        int a, b;
        double unused;
        system.getConstraintParameters(constraint, a, b, unused);
        Vec3 d = positions[a] - positions[b] + (particle == a ? shift : Vec3()) -
                 (particle == b ? shift : Vec3());
        return std::sqrt(d.dot(d));
    };
    const int size = system.getNumConstraints();
    std::vector<std::vector<double>> z(size, std::vector<double>(size, 0.0));
    for (int i = 0; i < system.getNumParticles(); i++)
        for (int axis = 0; axis < 3; axis++) {
            Vec3 shift;
            shift[axis] = h;
            std::vector<double> gradient;
            for (int k = 0; k < size; k++)
                gradient.push_back((length(k, i, shift) - length(k, i, shift * -1)) / (2 * h));
            for (int k = 0; k < size; k++)
                for (int l = 0; l < size; l++)
                    z[k][l] += gradient[k] * gradient[l] / system.getParticleMass(i);
        }
    double sum = 0;
    for (int k = 0; k < size; k++) {
        for (int l = k + 1; l < size; l++)
            for (int j = size - 1; j >= k; j--)
                z[l][j] -= z[k][j] * z[l][k] / z[k][k];
        sum += 0.5 * std::log(z[k][k]);
    }
    return sum;
}

/**
 * The metric is the determinant of the definition, whatever the masses, the geometry and the order of atoms.
 */
void testMetricIsTheDeterminant() {
    std::mt19937 random(4);
    std::uniform_real_distribution<double> mass(1.0, 4.5), heavyMass(5.0, 32.0), coordinate(-0.2, 0.2);
    for (int trial = 0; trial < 20; trial++) {
        // Two heavy atoms with 4 and 3 hydrogens, one with a single one, and one with none; in any order.

        std::vector<int> places(12);
        std::iota(places.begin(), places.end(), 0);
        std::shuffle(places.begin(), places.end(), random);
        const std::vector<int> parents = {-1, 0, 0, 0, 0, -1, 5, 5, 5, -1, 9, -1};
        System system;
        std::vector<double> masses(12);
        for (int i = 0; i < 12; i++)
            masses[places[i]] = (parents[i] < 0 ? heavyMass(random) : mass(random));
        for (double m : masses)
            system.addParticle(m);
        for (int i = 0; i < 12; i++)
            if (parents[i] >= 0 && i % 2 == 0)
                system.addConstraint(places[parents[i]], places[i], 0.1);
            else if (parents[i] >= 0)
                system.addConstraint(places[i], places[parents[i]], 0.1);
        std::vector<int> particles(12), moved;
        std::iota(particles.begin(), particles.end(), 0);
        std::shuffle(particles.begin(), particles.end(), random);
        for (int i = 0; i < 12; i++)
            moved.push_back(i);
        ConstraintMetric metric(system, particles, moved);
        ASSERT(metric.matters());
        ASSERT_EQUAL(8, (int)metric.getBonds().size());
        auto differenceTo = [&](const std::vector<Vec3>& ofParticles) {
            std::vector<Vec3> ofBlock;
            for (int particle : particles)
                ofBlock.push_back(ofParticles[particle]);
            return metric.compute(ofBlock) - logMetric(system, ofParticles);
        };
        auto draw = [&] {
            std::vector<Vec3> positions;
            for (int i = 0; i < 12; i++)
                positions.emplace_back(coordinate(random), coordinate(random), coordinate(random));
            return positions;
        };
        ASSERT(std::fabs(differenceTo(draw()) - differenceTo(draw())) < 1e-6);
    }
}

/**
 * Constraints that proposals cannot keep are refused, whatever the masses.
 */
void testRefusedConstraints() {
    auto refuse = [](const std::vector<double>& masses, const std::vector<std::pair<int, int>>& bonds) {
        System system;
        std::vector<int> particles;
        for (size_t i = 0; i < masses.size(); i++) {
            system.addParticle(masses[i]);
            particles.push_back(i);
        }
        for (auto& bond : bonds)
            system.addConstraint(bond.first, bond.second, 0.1);
        assertThrows([&] { ConstraintMetric(system, particles, {0}); }, "rigidWater=False");
    };
    refuse({16, 1, 1}, {{0, 1}, {0, 2}, {1, 2}});
    refuse({12, 12}, {{0, 1}});
    refuse({3, 4, 4, 4, 3, 4}, {{0, 1}, {0, 2}, {0, 3}, {0, 4}, {4, 5}});
    refuse({12, 1, 12}, {{0, 1}, {1, 2}});
    refuse({12, 1, 3, 4, 4}, {{0, 1}, {0, 2}, {2, 3}, {2, 4}});
}

/**
 * Lengths become those of the System by moving hydrogens along their bonds, those alone that proposals move.
 */
void testImposingLengths() {
    Hydrides molecule("star");
    auto system = molecule.createSystem();
    std::mt19937 random(5);
    std::normal_distribution<double> normal(0.0, 0.1);
    std::vector<double> rows(3 * 12);
    for (double& x : rows)
        x = normal(random);
    for (bool heavyMoves : {false, true}) {
        // Atom 3 is context, and so is the heavy atom unless it moves.

        std::vector<int> moved = {1, 2};
        if (heavyMoves)
            moved = {0, 1, 2};
        ConstraintMetric metric(*system, molecule.all(), moved);
        auto imposed = rows;
        metric.imposeLengths(imposed);
        for (int row = 0; row < 3; row++)
            for (int atom = 0; atom < 4; atom++) {
                const int start = 12 * row, a = start + 3 * atom;
                Vec3 before(rows[a] - rows[start], rows[a + 1] - rows[start + 1],
                            rows[a + 2] - rows[start + 2]);
                Vec3 after(imposed[a] - imposed[start], imposed[a + 1] - imposed[start + 1],
                           imposed[a + 2] - imposed[start + 2]);
                if (atom == 0 || (atom == 3 && !heavyMoves)) {
                    ASSERT(std::equal(&rows[a], &rows[a] + 3, &imposed[a]));
                    continue;
                }
                ASSERT_EQUAL_TOL(molecule.lengths[atom], std::sqrt(after.dot(after)), 1e-12);
                ASSERT_EQUAL_VEC(before * (molecule.lengths[atom] / std::sqrt(before.dot(before))), after,
                                 1e-12);
            }
    }
}

/** The metric term with the wrong sign, or without it. */
template <int factor> class WrongMetric : public FlowMove {
public:
    using FlowMove::FlowMove;
    double logAcceptance(TimewarpPlugin::Target& target, std::int64_t entry, double energyChange) override {
        return FlowMove::logAcceptance(target, entry, energyChange) - factor * metricChange(target);
    }
};
using NoMetric = WrongMetric<1>;
using InvertedMetric = WrongMetric<2>;

/**
 * Run a chain, and keep states that are independent draws: of each number of them all are rejected once in
 * many thousands.
 */
std::vector<std::vector<Vec3>> sample(const Hydrides& molecule, Integrator& integrator, Platform& platform,
                                      int numSamples) {
    auto system = molecule.createSystem();
    Context context(*system, integrator, platform);
    std::mt19937 random(1);
    context.setPositions(molecule.drawUniformly(random));
    std::vector<std::vector<Vec3>> samples;
    integrator.step(20);
    for (int i = 0; i < numSamples; i++) {
        integrator.step(2);
        samples.push_back(context.getState(State::Positions).getPositions());
    }
    return samples;
}

/**
 * Check that log det Z / 2 has the mean that it should.  (By the lemma of Neyman and Pearson nothing tells
 * better whether the term is there.)  The reference are uniform directions with the weights |Z|^(1/2).
 */
void assertMetricSampled(const Hydrides& molecule, const std::vector<std::vector<Vec3>>& samples) {
    auto system = molecule.createSystem();
    std::mt19937 random(2);
    double weights = 0, mean = 0, square = 0;
    for (int i = 0; i < 100000; i++) {
        double value = logMetric(*system, molecule.drawUniformly(random)), weight = std::exp(value);
        weights += weight;
        mean += weight * value;
        square += weight * value * value;
    }
    mean /= weights;
    std::vector<double> found;
    for (auto& positions : samples)
        found.push_back(logMetric(*system, positions));
    assertMean(found, mean, square / weights - mean * mean);
}

std::unique_ptr<TimewarpMCMCIntegrator> integratorFor(const Hydrides& molecule, const std::string& tree,
                                                      const std::string& model = "hydrogens_") {
    auto integrator = std::make_unique<TimewarpMCMCIntegrator>(modelPath(model + tree, molecule.size()));
    integrator->setRandomNumberSeed(8);
    integrator->setBatchSize(64);
    return integrator;
}

template <class Flow>
std::unique_ptr<BlockChain<Flow>> chainFor(const Hydrides& molecule, const std::string& tree) {
    return std::make_unique<BlockChain<Flow>>(std::vector<TestBlock>{{"hydrogens_" + tree, molecule.all()}},
                                              64, 8);
}

/**
 * A rigid trimer: heavy atom M, two hydrogens of mass m.  Z has 1/m + 1/M on its diagonal and cos(theta)/M
 * off it, so that det Z is proportional to a^2 - cos^2(theta) with a = 1 + M/m, and
 *
 *     p(theta) ~ sin(theta) sqrt(a^2 - cos^2(theta)),
 *
 * which for three equal masses, as here, is sin(theta) sqrt(4 - cos^2(theta)).
 */
void testTrimer(Platform& platform) {
    const int numSamples = 10000;
    Hydrides molecule("trimer", 14.0 / 3);
    const double a = 1 + molecule.mass(0) / molecule.mass(1);
    double norm = 0, mean = 0, square = 0;
    for (int i = 0; i < 2000; i++) {
        double c = (i + 0.5) / 2000, p = std::sqrt(a * a - c * c);
        norm += p;
        mean += p * c * c;
        square += p * c * c * c * c;
    }
    mean /= norm;
    auto assertAngles = [&](const std::vector<std::vector<Vec3>>& samples) {
        std::vector<double> squares;
        for (auto& p : samples) {
            double cosine = (p[1] - p[0]).dot(p[2] - p[0]) / (molecule.lengths[1] * molecule.lengths[2]);
            squares.push_back(cosine * cosine);
        }
        assertMean(squares, mean, square / norm - mean * mean);
    };
    assertAngles(sample(molecule, *integratorFor(molecule, "trimer"), platform, numSamples));
    auto inverted = sample(molecule, *chainFor<InvertedMetric>(molecule, "trimer"), platform, numSamples);
    assertThrows([&] { assertAngles(inverted); }, "standard errors off");
}

/**
 * A centre with three hydrogens, where the metric term matters most.
 */
void testStar(Platform& platform) {
    const int numSamples = 10000;
    Hydrides molecule("star");
    auto check = [&](Integrator& integrator) {
        assertMetricSampled(molecule, sample(molecule, integrator, platform, numSamples));
    };
    check(*integratorFor(molecule, "star"));
    assertThrows([&] { check(*chainFor<NoMetric>(molecule, "star")); }, "standard errors off");
    assertThrows([&] { check(*chainFor<InvertedMetric>(molecule, "star")); }, "standard errors off");

    // The masses of the model are others than those of the System.

    Hydrides ofModel("star", 1.0);
    auto wrong = chainFor<FlowMove>(molecule, "star");
    wrong->plant = [&](ContextImpl&, const BlockAtoms& atoms, BlockSurroundings& surroundings) {
        surroundings.metric = ConstraintMetric(*ofModel.createSystem(), atoms.particles, atoms.moved);
    };
    assertThrows([&] { check(*wrong); }, "standard errors off");
}

double torsion(const Vec3& a, const Vec3& b, const Vec3& c, const Vec3& d) {
    Vec3 axis = c - b, first = (b - a).cross(axis), second = axis.cross(d - c);
    return std::atan2(first.cross(second).dot(axis) / std::sqrt(axis.dot(axis)), first.dot(second));
}

/**
 * Two bonded heavy atoms with two hydrogens each and no forces: the torsion is uniform, and the angles at
 * each end are those of a trimer.
 */
void testTorsion(Platform& platform) {
    Hydrides molecule("double_star");
    auto samples = sample(molecule, *integratorFor(molecule, "double_star"), platform, 4000);
    std::vector<double> torsions, uniform;
    for (auto& p : samples)
        torsions.push_back(torsion(p[1], p[0], p[3], p[4]));
    for (int i = 0; i < 20000; i++)
        uniform.push_back(2 * M_PI * (i + 0.5) / 20000 - M_PI);
    assertSameDistribution(torsions, uniform);
    assertMetricSampled(molecule, samples);
}

/**
 * Lengths stay within the tolerance of the dynamics however many proposals are accepted, away from the origin
 * of the coordinates and in single precision too.
 */
void testLengthsStay(Platform& platform) {
    // Rounding adds up in single precision, and so does what a model does to lengths that it should keep.

    const int manyRoundings = (precisionOf(platform) == "single" ? 10000 : 2000);
    Hydrides molecule("star");
    auto system = molecule.createSystem();
    std::mt19937 random(1);
    for (auto [model, numAccepted] :
         {std::make_pair("hydrogens_", manyRoundings), std::make_pair("drifting_", 500)}) {
        auto integrator = integratorFor(molecule, "star", model);
        Context context(*system, *integrator, platform);
        context.setPositions(molecule.drawUniformly(random));
        while (integrator->getNumAccepted() < numAccepted) {
            integrator->step(250);
            ASSERT(molecule.lengthError(context.getState(State::Positions).getPositions()) <
                   integrator->getConstraintTolerance());
        }
    }

    // The test sees a length that is not kept.

    auto resampled = chainFor<FlowMove>(molecule, "star");
    resampled->plant = [](ContextImpl&, const BlockAtoms&, BlockSurroundings& surroundings) {
        surroundings.metric = ConstraintMetric();
        surroundings.keptStretches.clear();
    };
    ASSERT(molecule.lengthError(sample(molecule, *resampled, platform, 1)[0]) > 1e-3);
}

/**
 * Check that velocities do not change the constrained lengths, and have the mean kinetic energy kT/2 per
 * degree of freedom.
 */
void checkVelocities(const Hydrides& molecule, Integrator& integrator, Platform& platform, bool withRemover) {
    auto system = molecule.createSystem();
    if (withRemover)
        system->addForce(new CMMotionRemover(1));
    const int numConstraints = system->getNumConstraints();
    Context context(*system, integrator, platform);
    std::mt19937 random(1);
    context.setPositions(molecule.drawUniformly(random));
    std::vector<double> energies;
    const int numSamples = (standsForAllPrecisions(platform) ? 1000 : 200);
    for (int i = 0; i < numSamples; i++) {
        integrator.step(1);
        State state = context.getState(State::Positions | State::Velocities);
        auto &p = state.getPositions(), &v = state.getVelocities();
        double energy = 0;
        Vec3 momentum;
        for (int j = 0; j < molecule.size(); j++) {
            energy += 0.5 * molecule.mass(j) * v[j].dot(v[j]);
            momentum += v[j] * molecule.mass(j);
            if (j == 0 || !molecule.isHydrogen(j))
                continue;
            Vec3 bond = p[j] - p[molecule.parents[j]];
            double along = (v[j] - v[molecule.parents[j]]).dot(bond) / std::sqrt(bond.dot(bond));
            if (!(std::fabs(along) < toleranceOn(platform, 1e-4, 1e-3)))
                throw OpenMMException("a velocity breaks a constraint by " + std::to_string(along));
        }
        if (withRemover)
            ASSERT(std::sqrt(momentum.dot(momentum)) < toleranceOn(platform, 1e-4, 1e-3));
        energies.push_back(energy);
    }
    double dof = 3 * molecule.size() - numConstraints - (withRemover ? 3 : 0);
    assertMean(energies, 0.5 * dof * KT, 0.5 * dof * KT * KT);
}

void testVelocities(Platform& platform) {
    // OpenMM's iterations, which know of no angles here, need hydrogens that are lighter than the heavy atom.

    Hydrides molecule("star", 1.0);
    for (bool withRemover : {false, true})
        for (const char* tree : {"star", "star_on_context"}) {
            // The heavy atom is context, and gets a new velocity with its hydrogens.

            auto integrator = integratorFor(molecule, tree);
            integrator->setFrozenOthers(true);
            checkVelocities(molecule, *integrator, platform, withRemover);
        }
    auto breaking = chainFor<FlowMove>(molecule, "star");
    breaking->plant = [](ContextImpl& context, const BlockAtoms& atoms, BlockSurroundings& surroundings) {
        surroundings.velocities = BlockVelocities(context, atoms.particles, atoms.redrawn, false);
    };
    assertThrows([&] { checkVelocities(molecule, *breaking, platform, false); }, "breaks a constraint");
}

/** Two of them, in a field that acts on the hydrogens. */
std::unique_ptr<System> createTwo(const Hydrides& molecule) {
    auto system = molecule.createSystem();
    auto& well = dynamic_cast<CustomExternalForce&>(system->getForce(0));
    auto* field = new CustomExternalForce("10*z");
    const int size = molecule.size();
    for (int i = 0; i < size; i++) {
        system->addParticle(molecule.mass(i));
        if (i == 0) {
            well.addParticle(size);
            continue;
        }
        system->addConstraint(size, size + i, molecule.lengths[i]);
        field->addParticle(i);
        field->addParticle(size + i);
    }
    system->addForce(field);
    return system;
}

/**
 * From positions that are off the constraints a chain goes on as if they had been put on them before, which
 * ever way they have come into the Context, and each of two molecules.
 */
void testStartsOffTheConstraints(Platform& platform) {
    const Hydrides molecule("star");
    const int size = molecule.size();
    auto system = createTwo(molecule);
    std::mt19937 random(1);
    std::vector<Vec3> on, off;
    for (int i : {0, 1})
        for (const Vec3& p : molecule.drawUniformly(random)) {
            on.push_back(p);
            off.push_back(p + (p - on[i * size]) * (0.05 - 0.07 * i));
        }
    auto create = [&] {
        auto integrator = std::make_unique<TimewarpMCMCIntegrator>(TEMPERATURE);
        for (int i : {0, 1})
            integrator->addBlock(modelPath("hydrogens_star", size),
                                 {size * i, size * i + 1, size * i + 2, size * i + 3});
        integrator->setRandomNumberSeed(8);
        integrator->setProposalsPerStep(20); // so that both are tried in each
        return integrator;
    };
    std::vector<std::vector<Vec3>> expected;
    auto advance = [&](Context& context) {
        for (int i = 0; i < 40; i++) {
            context.getIntegrator().step(1);
            auto p = context.getState(State::Positions).getPositions();
            if (expected.size() < 40)
                expected.push_back(p);
            ASSERT(maxDifference(expected[i], p) < toleranceOn(platform, 1e-9, 1e-4));
        }
    };
    auto first = create(), second = create(), third = create();
    Context context(*system, *first, platform), other(*system, *second, platform);
    context.setPositions(on);
    advance(context);
    for (int i : {0, 1})
        ASSERT(first->getBlockNumAccepted(i) > 10);
    other.setPositions(off);
    State before = other.getState(State::Positions | State::IntegratorParameters);
    advance(other);

    // A State that was saved before the first step, and positions that are set between steps.

    Context last(*system, *third, platform);
    last.setState(before);
    advance(last);
    for (int i = 0; i < 2 * size; i++)
        off[i] = on[i] + (off[i] - on[i]) * 0.3;
    last.setPositions(off);
    third->step(1);
    auto p = last.getState(State::Positions).getPositions();
    for (int i : {0, 1})
        ASSERT(molecule.lengthError({p.begin() + i * size, p.begin() + (i + 1) * size}) <
               toleranceOn(platform, 1e-9, 1e-5));
}

/**
 * The metric term of the state is not computed again at every try, and is that of the state.
 */
void testMetricTermOfTheState(Platform& platform) {
    for (bool setsPositions : {false, true}) {
        Hydrides molecule("star");
        auto system = molecule.createSystem();
        BlockChain<FlowMove> integrator({{"hydrogens_star", molecule.all()}}, 16, 8);
        FlowMove* move = nullptr;
        integrator.around = [&](ContextImpl&, const BlockAtoms&, std::unique_ptr<FlowMove> flow) {
            move = flow.get();
            return flow;
        };
        Context context(*system, integrator, platform);
        std::mt19937 random(1);
        context.setPositions(molecule.drawUniformly(random));
        ConstraintMetric metric(*system, molecule.all(), molecule.all());
        int numKnown = 0;
        for (int i = 0; i < 200; i++) {
            integrator.step(1);
            const auto& term = move->getMetricTerm();
            const auto& positions = move->getPositions();
            if (term.isOf(positions.getRevision())) {
                numKnown++;
                ASSERT_EQUAL(metric.compute(positions.get()), term.value);
            }
            if (setsPositions && i % 10 == 0)
                context.setPositions(molecule.drawUniformly(random));
        }
        auto& counters = integrator.getCounters(0);
        ASSERT(counters.numAccepted > 20 && counters.numAccepted < 180);
        ASSERT_EQUAL(200 - counters.numAccepted, numKnown);
    }
}

void runTests(Platform& platform) {
    if (standsForAllPrecisions(platform)) {
        testMetricIsTheDeterminant();
        testRefusedConstraints();
        testImposingLengths();
    }

    // The measure is computed on the host, whatever the platform.

    if (!isDevice(platform)) {
        testTrimer(platform);
        testStar(platform);
        testTorsion(platform);
    }
    testLengthsStay(platform);
    testVelocities(platform);
    testStartsOffTheConstraints(platform);
    testMetricTermOfTheState(platform);
}
