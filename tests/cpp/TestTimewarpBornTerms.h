/*
 * The local form of a generalised Born energy (GBSAOBCForce).  It is OpenMM's where no two charged particles
 * stay where they are; their pairs are linear in their Born radii.
 */
#include "BornSums.h"
#include "BornTerms.h"
#include "LocalEnergy.h"
#include "MovedRegion.h"
#include "SystemTerms.h"
#include "TimewarpTestLoan.h"
#include "TimewarpTestPeptides.h"
#include "TimewarpTestUtilities.h"

using TimewarpPlugin::BlockParticles;
using TimewarpPlugin::BornForm;
using TimewarpPlugin::BornSums;
using TimewarpPlugin::BornTerms;
using TimewarpPlugin::LocalEnergy;
using TimewarpPlugin::MovedRegion;
using TimewarpPlugin::SystemState;
using TimewarpPlugin::SystemTerms;
using Positions = std::vector<Vec3>;

const double CUTOFF = 0.8;
const std::vector<char> ALL(100, false);

/**
 * Capped valine among waters, of which some are in the peptide's place in an implicit solvent, with nothing
 * but the generalised Born energy.  Where a cut-off makes no sense of it, the waters are left out.
 */
struct Solvated {
    Solvated(GBSAOBCForce::NonbondedMethod method, const std::vector<Vec3>& box = CUBE, bool hasWater = true)
            : peptide(readPeptide(TIMEWARP_TEST_DATA, "amber")), box(box) {
        for (Vec3& p : peptide.positions)
            p += (box[0] + box[1] + box[2]) * 0.5;
        if (hasWater)
            addWater(peptide, box);
        system.setDefaultPeriodicBoxVectors(box[0], box[1], box[2]);
        auto* force = new GBSAOBCForce();
        auto& nonbonded = peptide.force<NonbondedForce>();
        for (int i = 0; i < peptide.system->getNumParticles(); i++) {
            double charge, sigma, epsilon;
            nonbonded.getParticleParameters(i, charge, sigma, epsilon);
            system.addParticle(1);
            const bool isLight = (peptide.system->getParticleMass(i) < 3);
            force->addParticle(charge, isLight ? 0.12 : 0.15 + 0.01 * (i % 3), isLight ? 0.85 : 0.72);
        }
        force->setNonbondedMethod(method);
        force->setCutoffDistance(CUTOFF);
        force->setSoluteDielectric(1.5);
        system.addForce(force);
        moved = peptide.sideChain;
    }
    GBSAOBCForce& force() {
        return forceOf<GBSAOBCForce>(system);
    }
    void setCharge(int particle, double charge) {
        double old, radius, scale;
        force().getParticleParameters(particle, old, radius, scale);
        force().setParticleParameters(particle, charge, radius, scale);
    }
    /** Take the charges of all that stays but for one particle. */
    void leaveOneCharge(int particle) {
        for (int i = 0; i < system.getNumParticles(); i++)
            if (i != particle && std::count(moved.begin(), moved.end(), i) == 0)
                setCharge(i, 0);
        setCharge(particle, -0.7);
    }
    std::vector<Positions> conformations(int count = 6) const {
        std::mt19937 random(3);
        std::vector<Positions> all;
        for (int i = 0; i < count; i++)
            all.push_back(propose(peptide, moved, random));
        return all;
    }

    Peptide peptide;
    std::vector<Vec3> box;
    /** With the generalised Born energy alone. */
    System system;
    std::vector<int> moved;
};

/**
 * The local form of a block.
 */
class Born {
public:
    Born(const Solvated& of, double reach = INFINITY, int following = -1)
            : form(SystemTerms(of.system, -1).getBorn().at(0)), moved(of.moved), reach(reach) {
        for (int particle : moved) {
            block.moved.push_back(particle);
            block.places.insert({particle, (int)block.places.size()});
        }
        if (following >= 0)
            block.following.insert(following);
        setState(of.peptide.positions, of.box);
    }
    void setState(const Positions& positions, const std::vector<Vec3>& box) {
        state = std::make_shared<SystemState>();
        state->positions = positions;
        state->box = {box[0], box[1], box[2]};
    }
    std::vector<double> energies(const std::vector<Positions>& conformations) {
        at::Tensor x = at::empty({(int64_t)conformations.size(), (int64_t)moved.size(), 3}, at::kDouble);
        double* next = x.data_ptr<double>();
        for (const Positions& positions : conformations)
            for (int particle : moved)
                for (int k = 0; k < 3; k++)
                    *next++ = positions[particle][k];
        BornTerms terms(form, block, reach);
        terms.setState(state);
        const auto* images = form.periodic ? &state->box : NULL;
        MovedRegion region(x, images);
        std::vector<double> found(conformations.size());
        terms.add(region.findNeighbors(*state, terms.getNotNeighbors(), terms.getCutoff(), images),
                  x.data_ptr<double>(), conformations.size(), ALL, found.data());
        return found;
    }

    BornForm form;
    std::vector<int> moved;
    double reach;
    BlockParticles block;
    std::shared_ptr<SystemState> state;
};

std::vector<double> energiesOfOpenMM(const Solvated& of, const std::vector<Positions>& conformations) {
    VerletIntegrator integrator(0.001);
    Context context(of.system, integrator, Platform::getPlatformByName("Reference"));
    std::vector<double> energies;
    for (const Positions& positions : conformations) {
        context.setPositions(positions);
        energies.push_back(context.getState(State::Energy).getPotentialEnergy());
    }
    return energies;
}

/** Get the largest error of differences from the first energy, relative to those above 1 kJ/mol. */
double largestError(const std::vector<double>& found, const std::vector<double>& expected) {
    double largest = 0;
    for (size_t i = 0; i < found.size(); i++) {
        const double change = expected[i] - expected[0];
        largest =
                std::max(largest, std::fabs(found[i] - found[0] - change) / std::max(1.0, std::fabs(change)));
    }
    return largest;
}

const auto ALL_METHODS = {GBSAOBCForce::NoCutoff, GBSAOBCForce::CutoffNonPeriodic,
                          GBSAOBCForce::CutoffPeriodic};

/**
 * With one charge among the others, nothing is approximate.
 */
void testExactWhereOthersAreNeutral(Platform&) {
    int turn = 0;
    for (auto method : ALL_METHODS)
        for (const auto& box : {CUBE, TILTED}) {
            Solvated solvated(method, box);
            const int particles[] = {solvated.peptide.beta, 4, solvated.peptide.numSolute + 30};
            solvated.leaveOneCharge(particles[turn++ % 3]);
            const auto all = solvated.conformations();
            const double error = largestError(Born(solvated).energies(all), energiesOfOpenMM(solvated, all));
            if (!(error < 1e-6))
                throw OpenMMException("energies differ by " + std::to_string(error * 1e6) + "e-6");
        }
}

/**
 * Faults that the comparison must see.
 */
void testFaultsAreSeen(Platform&) {
    Solvated solvated(GBSAOBCForce::CutoffPeriodic, TILTED);
    solvated.leaveOneCharge(solvated.peptide.beta);
    const auto all = solvated.conformations();
    const auto expected = energiesOfOpenMM(solvated, all);
    const int charged = solvated.peptide.beta, moved = solvated.moved[0];
    const std::vector<std::function<void(Born&)>> faults{
            [](Born& born) { born.form.periodic = false; },
            [](Born& born) { born.form.cutoff = 0.78; },
            [](Born& born) { born.form.prefactor *= 1.0001; },
            [](Born& born) { born.form.surface *= 1.001; },
            [](Born& born) { born.reach = 0; },
            [&](Born& born) { born.form.charges[charged] += 1e-3; },
            [&](Born& born) { born.form.radii[charged] += 1e-4; },
            [&](Born& born) { born.form.reduced[charged] += 1e-4; },
            [&](Born& born) { born.form.scaled[moved] += 1e-4; },
            [&](Born& born) {
                for (int i = 40; i < (int)born.form.scaled.size(); i++)
                    born.form.scaled[i] += 1e-3;
            }};
    for (size_t i = 0; i < faults.size(); i++) {
        Born born(solvated);
        faults[i](born);
        if (!(largestError(born.energies(all), expected) > 2e-6))
            throw OpenMMException("fault " + std::to_string(i) + " was not seen");
    }
}

/**
 * Pairs of others change in proportion to the reciprocals of their Born radii: what a small particle does to
 * them is right but for its square.
 */
void testPairsOfOthersAreLinear(Platform&) {
    for (auto method : ALL_METHODS) {
        Solvated solvated(method);
        for (int particle : solvated.moved) {
            solvated.force().setParticleParameters(particle, 0, 0.05, 0.5);
            solvated.setCharge(particle, 0);
        }
        const auto all = solvated.conformations();
        const auto expected = energiesOfOpenMM(solvated, all), found = Born(solvated).energies(all);
        double largest = 0, error = 0;
        for (size_t i = 1; i < all.size(); i++) {
            const double change = expected[i] - expected[0];
            largest = std::max(largest, std::fabs(change));
            error = std::max(error, std::fabs(found[i] - found[0] - change));
        }
        ASSERT(largest > 0.01);
        if (!(error < 0.01 * largest))
            throw OpenMMException("the change is wrong by a share of " + std::to_string(error / largest));
    }
}

/**
 * What is approximate costs little acceptance: for capped valine 0.1 kT were measured.
 */
void testRemainder(Platform&) {
    Solvated solvated(GBSAOBCForce::NoCutoff, CUBE, false);
    solvated.force().setSoluteDielectric(1);
    const auto all = solvated.conformations(40);
    const auto expected = energiesOfOpenMM(solvated, all), found = Born(solvated, 0.6).energies(all);
    double sum = 0, squares = 0, changes = 0;
    for (size_t i = 0; i < all.size(); i++) {
        const double error = (found[i] - expected[i]) - (found[0] - expected[0]);
        sum += error / all.size();
        squares += error * error / all.size();
        changes += std::pow(expected[i] - expected[0], 2) / all.size();
    }
    const double deviation = std::sqrt(squares - sum * sum) / KT;
    std::cout << "remainder of Born terms: " << deviation << " kT, of changes of " << std::sqrt(changes) / KT
              << std::endl;
    ASSERT(deviation < 0.2);
}

/**
 * The energy of a conformation is the same to the last bit alone and among others, which make other particles
 * neighbours.
 */
void testIndependentOfBatch(Platform&) {
    for (auto method : ALL_METHODS)
        for (const auto& box : {CUBE, TILTED}) {
            Solvated solvated(method, box);
            auto all = solvated.conformations();
            all.push_back(all[1]);
            all.back()[solvated.moved[1]] += Vec3(0.15, 0.4, -0.2);
            all.push_back(all[2]);
            for (int particle : solvated.moved)
                all.back()[particle] += Vec3(3, -4, 12);
            Born born(solvated, 0.6);
            const std::vector<double> together = born.energies(all);
            std::vector<double> backwards = born.energies(std::vector<Positions>(all.rbegin(), all.rend()));
            std::reverse(backwards.begin(), backwards.end());
            ASSERT(together == backwards);
            for (size_t i = 0; i < all.size(); i++)
                ASSERT(std::isfinite(together[i]) && together[i] == born.energies({all[i]})[0]);
        }
}

/**
 * It is one function of where the moved particles are: where they have been does not matter, nor does what
 * follows them.  The sums of a state that has changed unnoticed would depend on it.
 */
void testIndependentOfThePast(Platform&) {
    for (auto method : ALL_METHODS) {
        Solvated solvated(method);
        const auto all = solvated.conformations();
        const int following = solvated.peptide.numSolute + 1;
        Born born(solvated, 0.6, following);
        const auto expected = born.energies(all);
        Positions elsewhere = all[3];
        elsewhere[following] += Vec3(0.1, -0.2, 0.1);
        auto largestChange = [&] {
            const auto found = born.energies(all);
            double largest = 0;
            for (size_t i = 0; i < all.size(); i++)
                largest = std::max(largest, std::fabs(found[i] - expected[i]));
            return largest;
        };
        const std::shared_ptr<SystemState> before = born.state;
        born.setState(elsewhere, solvated.box);
        const double change = largestChange();
        if (!(change < 1e-9))
            throw OpenMMException("energies depend on the past by " + std::to_string(1e9 * change) +
                                  "e-9 kJ/mol");
        born.state = before;
        ASSERT(largestChange() < 1e-9);
        born.state->positions = elsewhere;
        ASSERT(largestChange() > 1e-3);
    }
}

/**
 * Sums are the same whether they are updated or added up anew.
 */
void testSums(Platform&) {
    for (auto method : ALL_METHODS) {
        Solvated solvated(method);
        const BornForm form = SystemTerms(solvated.system, -1).getBorn().at(0);
        BornSums updated;
        auto state = std::make_shared<SystemState>();
        state->positions = solvated.peptide.positions;
        state->box = {CUBE[0], CUBE[1], CUBE[2]};
        std::mt19937 random(5);
        std::normal_distribution<double> normal(0, 0.1);
        for (int step = 0; step < 6; step++) {
            const std::vector<double> found = updated.get(form, state);
            BornSums anew;
            const std::vector<double>& expected = anew.get(form, state);
            double largest = 0;
            for (size_t i = 0; i < found.size(); i++)
                largest = std::max(largest, std::fabs(found[i] - expected[i]) / (1 + expected[i]));
            ASSERT(largest < 1e-10);
            state = std::make_shared<SystemState>(*state);
            for (int i = step; i < (int)state->positions.size(); i += (step == 4 ? 2 : 40))
                state->positions[i] += Vec3(normal(random), normal(random), normal(random));
            if (step == 2)
                state->box[0][0] = 1.8;
        }
    }
}

/**
 * As a part of the local energy of a block: its differences are those of the System, another box and other
 * surroundings are noticed, from far away as well.
 */
void testLocalEnergy(Platform& platform) {
    Solvated solvated(GBSAOBCForce::CutoffPeriodic);
    LendingContext lender(platform);
    std::vector<int> particles(solvated.system.getNumParticles());
    std::iota(particles.begin(), particles.end(), 0);
    auto terms = std::make_shared<SystemTerms>(solvated.system, -1);
    LocalEnergy local(terms, particles, solvated.moved);
    ASSERT(local.getLeftOut().empty());
    Solvated other(GBSAOBCForce::CutoffPeriodic);
    other.setCharge(0, 0.123);
    LocalEnergy ofOther(std::make_shared<SystemTerms>(other.system, -1), particles, solvated.moved);
    ASSERT(local.getDigest() != ofOther.getDigest());

    const auto all = solvated.conformations();
    Born born(solvated, 0.6);
    auto assertSame = [&] {
        const auto expected = born.energies(all);
        for (size_t i = 0; i < all.size(); i++)
            ASSERT_EQUAL_TOL(expected[i], local.compute(lender.lend(), all[i]), 1e-12);
    };
    ASSERT(local.setState(lender.lend(), born.state));
    assertSame();

    // Farther than the cut-off from all that moves.

    Positions positions = solvated.peptide.positions;
    positions.back() += Vec3(0.02, 0.03, 0.01);
    born.setState(positions, CUBE);
    ASSERT(local.setState(lender.lend(), born.state));
    assertSame();
    born.setState(positions, {Vec3(1.8, 0, 0), CUBE[1], CUBE[2]});
    ASSERT(local.setState(lender.lend(), born.state));
    assertSame();
    born.setState(positions, {Vec3(1.5, 0, 0), CUBE[1], CUBE[2]});
    assertThrows([&] { local.setState(lender.lend(), born.state); }, "smaller than twice the cut-off");
}

/** What cannot be computed is left to the System's energy. */
void testLeftOut(Platform&) {
    Solvated solvated(GBSAOBCForce::NoCutoff);
    solvated.force().setParticleParameters(7, 0.1, 0.009, 0.8);
    SystemTerms terms(solvated.system, -1);
    ASSERT(terms.getBorn().empty());
    ASSERT(terms.getLeftOut().at(0).find("the radius of particle 7 is not above 0.009 nm") !=
           std::string::npos);
}

void runTests(Platform& platform) {
    testExactWhereOthersAreNeutral(platform);
    testFaultsAreSeen(platform);
    testPairsOfOthersAreLinear(platform);
    testRemainder(platform);
    testIndependentOfBatch(platform);
    testIndependentOfThePast(platform);
    testSums(platform);
    testLocalEnergy(platform);
    testLeftOut(platform);
}
