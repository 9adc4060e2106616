/*
 * The pairs of a NonbondedForce are computed by loops on CPUs, and by the expression of the same function
 * elsewhere: both must give the same energies.
 */
#include "PairTerms.h"
#include "SystemTerms.h"
#include "TimewarpTestPeptides.h"
#include "TimewarpTestUtilities.h"

using TimewarpPlugin::BlockParticles;
using TimewarpPlugin::MovedRegion;
using TimewarpPlugin::PairForm;
using TimewarpPlugin::PairTerms;
using TimewarpPlugin::SystemState;
using TimewarpPlugin::SystemTerms;
using Positions = std::vector<Vec3>;

/**
 * The pair terms of a block of capped valine in water, computed in one way or the other.
 */
class Pairs {
public:
    Pairs(NonbondedForce::NonbondedMethod method, bool isSwitched, const std::vector<Vec3>& box,
          bool wholeMolecule)
            : peptide(readPeptide(TIMEWARP_TEST_DATA, "amber")), box(box) {
        addWater(peptide, box);
        auto& force = peptide.force<NonbondedForce>();
        force.setNonbondedMethod(method);
        force.setCutoffDistance(0.8);
        force.setReactionFieldDielectric(50);
        force.setUseSwitchingFunction(isSwitched);
        force.setSwitchingDistance(0.6);
        force.addGlobalParameter("charging", 0.5);
        for (int i : {0, peptide.sideChain[0], peptide.sideChain[1], peptide.beta, peptide.numSolute})
            force.addParticleParameterOffset("charging", i, 0.3, 0.02, 0.4);
        form = SystemTerms(*peptide.system, -1).getPairs().at(0);
        ASSERT(form.nonbonded);
        moved = peptide.sideChain;
        if (wholeMolecule)
            for (moved.clear(); (int)moved.size() < peptide.numSolute;)
                moved.push_back(moved.size());
        for (int particle : moved) {
            block.moved.push_back(particle);
            block.places.insert({particle, (int)block.places.size()});
        }
        // A particle that follows a moved one is none of its neighbours.

        block.following.insert(peptide.numSolute + 1);
        state = std::make_shared<SystemState>();
        state->positions = peptide.positions;
        state->box = {box[0], box[1], box[2]};
        state->parameters["charging"] = 0.9;
    }
    /** Turned and shaken; in other images of the box, whole or torn apart; far away; and with clashes. */
    std::vector<Positions> conformations() const {
        std::mt19937 random(3);
        std::uniform_int_distribution<int> cells(-2, 2);
        auto image = [&] { return box[0] * cells(random) + box[1] * cells(random) + box[2] * cells(random); };
        std::vector<Positions> all;
        for (int i = 0; i < 6; i++)
            all.push_back(propose(peptide, moved, random));
        for (int i = 0; i < 2; i++) {
            all.push_back(propose(peptide, moved, random));
            const Vec3 together = image();
            for (int particle : moved)
                all.back()[particle] += together;
            all.push_back(propose(peptide, moved, random));
            for (int particle : moved)
                all.back()[particle] += image();
        }
        for (double distance : {0.5, 30.0}) {
            all.push_back(propose(peptide, moved, random));
            all.back()[moved[1]] += Vec3(0.3, 0.9, -0.5) * distance;
        }
        all.push_back(propose(peptide, moved, random));
        all.back()[moved[2]] = peptide.positions[peptide.numSolute + 9] + Vec3(0.004, 0.05, -0.03);
        return all;
    }
    std::vector<double> energies(const PairForm& form, const std::vector<Positions>& conformations,
                                 double clashEnergy) {
        at::Tensor x = at::empty({(int64_t)conformations.size(), (int64_t)moved.size(), 3}, at::kDouble);
        double* next = x.data_ptr<double>();
        for (const Positions& positions : conformations)
            for (int particle : moved)
                for (int k = 0; k < 3; k++)
                    *next++ = positions[particle][k];
        PairTerms terms(form, block, clashEnergy);
        terms.setState(state, at::kCPU);
        std::vector<char> clashes(conformations.size());
        at::Tensor found = terms.energies(MovedRegion(x, form.periodic ? &state->box : NULL), clashes);
        return std::vector<double>(found.data_ptr<double>(), found.data_ptr<double>() + found.numel());
    }
    /** Get the largest error of what loops find with a form, relative to energies above 1 kJ/mol. */
    double largestError(const PairForm& looped, double clashEnergy) {
        PairForm expression = form;
        expression.nonbonded.reset();
        std::vector<double> a = energies(looped, conformations(), clashEnergy);
        std::vector<double> b = energies(expression, conformations(), clashEnergy);
        double largest = 0;
        for (size_t i = 0; i < a.size(); i++) {
            ASSERT(std::isfinite(a[i]) && std::isfinite(b[i]));
            largest = std::max(largest, std::fabs(a[i] - b[i]) / std::max(1.0, std::fabs(b[i])));
        }
        return largest;
    }

    Peptide peptide;
    std::vector<Vec3> box;
    PairForm form;
    std::vector<int> moved;
    BlockParticles block;
    std::shared_ptr<SystemState> state;
};

const auto ALL_METHODS = {NonbondedForce::NoCutoff,
                          NonbondedForce::CutoffNonPeriodic,
                          NonbondedForce::CutoffPeriodic,
                          NonbondedForce::Ewald,
                          NonbondedForce::PME,
                          NonbondedForce::LJPME};

template <class Check> void forAll(Check check) {
    for (auto method : ALL_METHODS)
        for (bool isSwitched : {false, true})
            for (const auto& box : {CUBE, TILTED})
                for (bool wholeMolecule : {false, true}) {
                    Pairs pairs(method, isSwitched, box, wholeMolecule);
                    check(pairs);
                }
}

/** Where clashes are judged, and where they are not. */
void testSameAsExpression(Platform&) {
    forAll([](Pairs& pairs) {
        for (double clashEnergy : {1000.0, (double)INFINITY}) {
            const double error = pairs.largestError(pairs.form, clashEnergy);
            if (!(error < 1e-10))
                throw OpenMMException("energies differ by " + std::to_string(error * 1e10) + "e-10");
        }
    });
}

/**
 * Faults that the comparison must see: images, excluded pairs, pairs near the cut-off, or terms that are
 * missing, and wrong parameters.
 */
void testFaultsAreSeen(Platform&) {
    using Fault = std::function<void(PairForm&, const Pairs&)>;
    const std::vector<Fault> faults{
            [](PairForm& form, const Pairs&) { form.periodic = false; },
            [](PairForm& form, const Pairs&) { form.cutoff = 0.795; },
            [](PairForm& form, const Pairs&) { form.nonbonded->isSwitched = false; },
            [](PairForm& form, const Pairs&) { form.nonbonded->begin = 0.61; },
            [](PairForm& form, const Pairs&) { form.nonbonded->rate *= 1.01; },
            [](PairForm& form, const Pairs&) { form.nonbonded->k *= 1.0001; },
            [](PairForm& form, const Pairs&) { form.nonbonded->c *= 1.0001; },
            [](PairForm& form, const Pairs&) {
                form.parameters.offsets.erase(form.parameters.offsets.begin());
            },
            [](PairForm& form, const Pairs& pairs) {
                // Of a moved particle with one that stays.

                for (auto pair = form.exclusions.begin(); pair != form.exclusions.end(); ++pair)
                    if (pairs.block.isMoved(pair->first) != pairs.block.isMoved(pair->second)) {
                        form.exclusions.erase(pair);
                        return;
                    }
            },
            [](PairForm& form, const Pairs& pairs) {
                // Of two moved ones.

                for (auto pair = form.exclusions.begin(); pair != form.exclusions.end(); ++pair)
                    if (pairs.block.isMoved(pair->first) && pairs.block.isMoved(pair->second)) {
                        form.exclusions.erase(pair);
                        return;
                    }
            },
            [](PairForm& form, const Pairs& pairs) {
                for (int i = pairs.peptide.numSolute; i < (int)pairs.state->positions.size(); i += 3)
                    form.exclusions.push_back({pairs.moved[0], i});
            }};
    Pairs pairs(NonbondedForce::CutoffPeriodic, true, TILTED, false);
    for (size_t i = 0; i < faults.size(); i++) {
        PairForm wrong = pairs.form;
        faults[i](wrong, pairs);
        if (!(pairs.largestError(wrong, INFINITY) > 1e-7))
            throw OpenMMException("fault " + std::to_string(i) + " was not seen");
    }
}

/**
 * The energy of a conformation is the same to the last bit alone and among others, which make other particles
 * neighbours.
 */
void testIndependentOfBatch(Platform&) {
    forAll([](Pairs& pairs) {
        const std::vector<Positions> all = pairs.conformations();
        std::vector<double> together = pairs.energies(pairs.form, all, INFINITY);
        std::vector<double> backwards =
                pairs.energies(pairs.form, std::vector<Positions>(all.rbegin(), all.rend()), INFINITY);
        std::reverse(backwards.begin(), backwards.end());
        ASSERT(together == backwards);
        for (size_t i = 0; i < all.size(); i++)
            ASSERT(together[i] == pairs.energies(pairs.form, {all[i]}, INFINITY)[0]);
    });
}

void runTests(Platform& platform) {
    testSameAsExpression(platform);
    testFaultsAreSeen(platform);
    testIndependentOfBatch(platform);
}
