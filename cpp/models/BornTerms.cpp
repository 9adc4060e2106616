#include "BornTerms.h"
#include "BornFunctions.h"
#include "BornSums.h"
#include "openmm/OpenMMException.h"
#include <limits>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

static const double INFINITE = numeric_limits<double>::infinity();
static const double UNKNOWN = numeric_limits<double>::quiet_NaN();
/** Radius of the probe that rolls on the surface (nm). */
static const double PROBE_RADIUS = 0.14;

static double squareOf(double distance) {
    return distance == 0 ? INFINITE : distance * distance;
}

namespace {

/** Particles are looked at so many at a time: those whose places begin with a multiple of it. */
const int GROUP = 8;

/**
 * Get what far particles add to the sum of another one (1/nm).
 *
 * @param squares   squared distances (nm^2)
 * @param from, to  those that are closer than the one, or not closer than the other, add nothing (nm^2)
 */
TIMEWARP_PAIR_LOOP void farTerms(const double* scaled, const double* squares, int count, double from,
                                 double to, double* __restrict terms) {
    for (int k = 0; k < count; k++) {
        const double term = farDescreening(scaled[k], squares[k]);
        terms[k] = squares[k] < from || !(squares[k] < to) ? 0 : term;
    }
}

/**
 * Get what particles add to the sum of one, and that one to theirs (1/nm).
 *
 * @param reduced, scaled   of the one
 * @param allReduced, allScaled   of the particles, of which those at some places are meant
 * @param squares           of their distances (nm^2)
 * @param toOne, toOthers   on exit, the terms
 */
TIMEWARP_PAIR_LOOP void closeTerms(double reduced, double scaled, const double* allReduced,
                                   const double* allScaled, const int* places, const double* squares,
                                   int count, double* __restrict toOne, double* __restrict toOthers) {
    for (int k = 0; k < count; k++) {
        toOne[k] = descreening(reduced, allScaled[places[k]], squares[k]);
        toOthers[k] = descreening(allReduced[places[k]], scaled, squares[k]);
    }
}

/**
 * Get the charges of particles, times 1/f - 1/cut-off of the pairs of each with another one.
 *
 * @param born       the Born radius of the latter (nm)
 * @param charges, bornRadii, inverses   of the particles, with reciprocals of the radii (1/nm)
 * @param to         pairs that are not closer have no energy (nm^2)
 * @param atCutoff   the reciprocal of the cut-off (1/nm)
 */
TIMEWARP_PAIR_LOOP void pairTerms(double born, const double* charges, const double* bornRadii,
                                  const double* inverses, const double* squares, int count, double to,
                                  double atCutoff, double* __restrict terms) {
    const double quarter = 0.25 / born;
    for (int k = 0; k < count; k++) {
        const double e = expOfMinus(quarter * squares[k] * inverses[k]);
        const double term = charges[k] * (1 / sqrt(squares[k] + born * bornRadii[k] * e) - atCutoff);
        terms[k] = squares[k] < to ? term : 0;
    }
}

/**
 * Get derivatives of the same, without the cut-off, by the reciprocal of the one particle's Born radius B,
 * but for a factor of B^2/2.  With D = r^2/(4 B B') and f^2 = r^2 + B B' exp(-D),
 *
 *     d(1/f)/d(1/B) = B^2 B' exp(-D) (1 + D) / (2 f^3).
 */
TIMEWARP_PAIR_LOOP void slopeTerms(double born, const double* charges, const double* bornRadii,
                                   const double* inverses, const double* squares, const int* places,
                                   int count, double* __restrict terms) {
    const double quarter = 0.25 / born;
    for (int k = 0; k < count; k++) {
        const int j = places[k];
        const double d = quarter * squares[k] * inverses[j], e = expOfMinus(d);
        const double f2 = squares[k] + born * bornRadii[j] * e;
        terms[k] = charges[j] * bornRadii[j] * e * (1 + d) / (f2 * sqrt(f2));
    }
}

} // namespace

/**
 * Some particles: what they are, and what is known of their Born radii.
 */
struct BornTerms::Particles : Points {
    vector<int> indices;
    /** Charges; radii, the same less the offset, and that scaled (nm). */
    vector<double> charges, radii, reduced, scaled;
    /** What other particles than moved ones add up to (1/nm), and the Born radii with that alone (nm). */
    vector<double> sums, bornRadii, inverseBornRadii;
    /** Of others: derivatives of the energy of their pairs with each other, by 1/B (kJ nm/mol). */
    vector<double> slopes;

    Particles(const BornForm& form, const vector<int>& indices)
            : Points(indices.size()), indices(indices), sums(indices.size()), bornRadii(sums),
              inverseBornRadii(sums) {
        for (int i : indices) {
            charges.push_back(form.charges[i]);
            radii.push_back(form.radii[i]);
            reduced.push_back(form.reduced[i]);
            scaled.push_back(form.scaled[i]);
        }
    }
    void setSum(int index, double sum) {
        sums[index] = sum;
        inverseBornRadii[index] = inverseOf(index, sum);
        bornRadii[index] = 1 / inverseBornRadii[index];
    }
    double inverseOf(int index, double sum) const {
        return inverseBornRadius(radii[index], reduced[index], sum);
    }
    /**
     * Get the energy of a particle with its own field, and of its surface (kJ/mol).
     *
     * @param inverse   of its Born radius (1/nm)
     */
    double ownEnergy(const BornForm& form, int index, double inverse) const {
        const double r = radii[index] + PROBE_RADIUS, ratio = radii[index] * inverse;
        const double ratio3 = ratio * ratio * ratio;
        return 0.5 * form.prefactor * charges[index] * charges[index] * inverse +
               form.surface * r * r * ratio3 * ratio3;
    }
};

BornTerms::BornTerms(const BornForm& form, const BlockParticles& block, double reach)
        : form(&form), reach(max(reach, form.farDistance)), moved(block.moved), without(block.moved) {
    without.insert(without.end(), block.following.begin(), block.following.end());
    sort(without.begin(), without.end());
}

void BornTerms::setState(shared_ptr<const SystemState> newState) {
    if (form->periodic)
        for (int k = 0; k < 3; k++)
            if (newState->box[k][k] < 1.999999 * form->cutoff)
                throw OpenMMException("Timewarp: the periodic box is smaller than twice the cut-off of the " +
                                      form->name);
    state = newState;
    others.reset();
}

double BornTerms::getReach() const {
    return form->cutoff == 0 ? INFINITE : min(reach, form->cutoff) + 2 * form->cutoff;
}

/**
 * Compute the radii that others have without the block.
 */
void BornTerms::lookAtSurroundings() {
    vector<int> indices;
    auto next = without.begin();
    for (int i = 0; i < (int)form->charges.size(); i++)
        if (next != without.end() && *next == i)
            ++next;
        else
            indices.push_back(i);
    others = make_shared<Particles>(*form, indices);
    const vector<double>& sums = form->sums->get(*form, state);
    for (int k = 0; k < others->size(); k++) {
        others->place(k, state->positions[indices[k]]);
        others->sums[k] = sums[indices[k]];
    }
    vector<double> squares(others->size());
    for (int i : without) {
        squaredDistances(state->positions[i], *others, 0, others->size(), form->periodic ? &state->box : NULL,
                         squares.data());
        for (int k = 0; k < others->size(); k++)
            if (squares[k] < squareOf(form->cutoff))
                others->sums[k] -= squares[k] < form->farDistance * form->farDistance
                                           ? descreening(others->reduced[k], form->scaled[i], squares[k])
                                           : farDescreening(form->scaled[i], squares[k]);
    }
    for (int k = 0; k < others->size(); k++)
        others->setSum(k, others->sums[k]);
    others->slopes.assign(others->size(), UNKNOWN);
}

/**
 * Get the derivative of the energy of pairs of others by 1/B of one of them (kJ nm/mol).
 */
double BornTerms::slopeOf(int other) {
    double& slope = others->slopes[other];
    if (!isnan(slope))
        return slope;
    const Particles& all = *others;
    vector<double> terms(all.size()), squares(all.size() + 1);
    vector<int> places(all.size() + 1);
    squaredDistances(all.positionOf(other), all, 0, all.size(), form->periodic ? &state->box : NULL,
                     terms.data());
    terms[other] = INFINITE;
    const int count =
            keepBelow(squareOf(form->cutoff), terms.data(), all.size(), 0, squares.data(), places.data());
    const double born = all.bornRadii[other];
    slopeTerms(born, all.charges.data(), all.bornRadii.data(), all.inverseBornRadii.data(), squares.data(),
               places.data(), count, terms.data());
    slope = 0.5 * form->prefactor * all.charges[other] * born * born * sumOf(terms.data(), count);
    return slope;
}

/**
 * Adds up the terms of one conformation after the other.
 *
 * Terms with others are computed in groups, those beyond the cut-off being zero, and sumOf() adds up each
 * place of a group for itself.  So a sum does not depend on which groups beyond the cut-off are there.
 */
class BornTerms::RowSum {
public:
    RowSum(BornTerms& terms, const vector<int>& neighbors)
            : terms(terms), form(*terms.form), others(*terms.others),
              box(form.periodic ? &terms.state->box : NULL), cutoffSquare(squareOf(form.cutoff)),
              reachSquare(terms.reach * terms.reach), own(form, terms.moved), near(form, inGroups(neighbors)),
              added(near.size()), squares(own.size()), after(own.size()), close(max(own.size(), near.size())),
              work(max(own.size(), near.size())) {
        for (vector<double>& of : squares)
            of.resize(near.size());
        for (int k = 0; k < near.size(); k++)
            copyFromOthers(k);
    }
    void place(int atom, const Vec3& position) {
        own.place(atom, position);
    }
    /** Get the energy (kJ/mol). */
    double compute() {
        findRadii();
        double energy = 0;
        for (int i = 0; i < own.size(); i++) {
            energy += own.ownEnergy(form, i, own.inverseBornRadii[i]);
            energy += pairEnergy(i, near, 0, squares[i].data());
            findSquaresAfter(i);
            energy += pairEnergy(i, own, i + 1, after.data());
        }
        return energy + changeOfOthers();
    }

private:
    /** Pairs of one moved particle: of which particles they are, and what each adds to the sum of the other.
     */
    struct ClosePairs {
        vector<int> places;
        vector<double> squares, toOne, toOthers;
        int count = 0;

        explicit ClosePairs(int most) : places(most), squares(most), toOne(most), toOthers(most) {
        }
        void add(int place, double square) {
            places[count] = place;
            squares[count++] = square;
        }
    };
    /** Get all others of the groups that neighbours are in. */
    vector<int> inGroups(const vector<int>& neighbors) {
        vector<int> particles;
        auto next = others.indices.begin();
        for (int neighbor : neighbors) {
            next = lower_bound(next, others.indices.end(), neighbor);
            const int first = (next - others.indices.begin()) / GROUP * GROUP;
            if (!places.empty() && places.back() >= first)
                continue;
            for (int k = first; k < first + GROUP; k++)
                places.push_back(k);
        }

        // The last group may lack some, in whose place the last one stands without any effect.

        const int last = others.size() - 1;
        for (int& k : places)
            particles.push_back(others.indices[min(k, last)]);
        return particles;
    }
    void copyFromOthers(int k) {
        const bool isThere = (places[k] < others.size());
        const int from = isThere ? places[k] : others.size() - 1;
        near.place(k, others.positionOf(from));
        near.sums[k] = others.sums[from];
        near.bornRadii[k] = others.bornRadii[from];
        near.inverseBornRadii[k] = others.inverseBornRadii[from];
        if (!isThere)
            near.charges[k] = near.scaled[k] = 0;
    }
    /** Find all Born radii. */
    void findRadii() {
        vector<double> sums(own.size());
        for (int i = 0; i < own.size(); i++) {
            squaredDistances(own.positionOf(i), near, 0, near.size(), box, squares[i].data());
            farTerms(near.scaled.data(), squares[i].data(), near.size(), reachSquare, cutoffSquare,
                     work.data());
            sums[i] += sumOf(work.data(), near.size()) + closeSum(i);
        }
        for (int i = 0; i < own.size(); i++) {
            findSquaresAfter(i);
            close.count = 0;
            for (int j = i + 1; j < own.size(); j++)
                if (after[j - i - 1] < cutoffSquare)
                    close.add(j, after[j - i - 1]);
            computeClose(i, own);
            for (int k = 0; k < close.count; k++) {
                sums[i] += close.toOne[k];
                sums[close.places[k]] += close.toOthers[k];
            }
        }
        for (int i = 0; i < own.size(); i++)
            own.setSum(i, sums[i]);
        for (int k : touched) {
            near.inverseBornRadii[k] = near.inverseOf(k, near.sums[k] + added[k]);
            near.bornRadii[k] = 1 / near.inverseBornRadii[k];
        }
    }
    /** Get what others within the reach add to the sum of a moved particle, and add to theirs. */
    double closeSum(int i) {
        const double limit = min(reachSquare, cutoffSquare), *square = squares[i].data();
        close.count = 0;
        for (int first = 0; first < near.size(); first += GROUP)
            if (hasBelow(square + first, limit))
                for (int k = first; k < first + GROUP; k++)
                    if (square[k] < limit && places[k] < others.size())
                        close.add(k, square[k]);
        computeClose(i, near);
        double sum = 0;
        for (int n = 0; n < close.count; n++) {
            const int k = close.places[n];
            sum += close.toOne[n];
            if (added[k] == 0)
                touched.push_back(k);
            added[k] += close.toOthers[n];
        }
        return sum;
    }
    void computeClose(int i, const Particles& with) {
        closeTerms(own.reduced[i], own.scaled[i], with.reduced.data(), with.scaled.data(),
                   close.places.data(), close.squares.data(), close.count, close.toOne.data(),
                   close.toOthers.data());
    }
    /** Get whether some number of a group is below a limit. */
    static bool hasBelow(const double* numbers, double limit) {
        int count = 0;
        for (int k = 0; k < GROUP; k++)
            count += numbers[k] < limit;
        return count > 0;
    }
    /** Find squared distances of a moved particle from moved ones after it. */
    void findSquaresAfter(int i) {
        squaredDistances(own.positionOf(i), own, i + 1, own.size() - i - 1, box, after.data());
    }
    double pairEnergy(int i, const Particles& with, int first, const double* of) {
        const int count = with.size() - first;
        pairTerms(own.bornRadii[i], with.charges.data() + first, with.bornRadii.data() + first,
                  with.inverseBornRadii.data() + first, of, count, cutoffSquare,
                  form.cutoff == 0 ? 0 : 1 / form.cutoff, work.data());
        return form.prefactor * own.charges[i] * sumOf(work.data(), count);
    }
    /** Get what the radii of others change, and set these back. */
    double changeOfOthers() {
        double energy = 0;
        for (int k : touched) {
            const double inverse = near.inverseBornRadii[k], before = others.inverseBornRadii[places[k]];
            energy += near.ownEnergy(form, k, inverse) - near.ownEnergy(form, k, before) +
                      terms.slopeOf(places[k]) * (inverse - before);
            near.bornRadii[k] = others.bornRadii[places[k]];
            near.inverseBornRadii[k] = before;
            added[k] = 0;
        }
        touched.clear();
        return energy;
    }

    BornTerms& terms;
    const BornForm& form;
    const Particles& others;
    const PeriodicBox* box;
    double cutoffSquare, reachSquare;
    /** Where the particles of "near" are among the others. */
    vector<int> places;
    /** Moved particles, and those that others near them have terms with. */
    Particles own, near;
    /** What moved particles add to the sums of others (1/nm), and to which of them. */
    vector<double> added;
    vector<int> touched;
    /** Squared distances of each moved particle from those near (nm^2). */
    vector<vector<double>> squares;
    /** Of one moved particle from those after it (nm^2). */
    vector<double> after;
    ClosePairs close;
    /** Terms of one moved particle. */
    vector<double> work;
};

void BornTerms::add(const vector<int>& neighbors, const double* positions, int64_t numRows,
                    const vector<char>& isLeftOut, double* energies) {
    if (!others)
        lookAtSurroundings();
    RowSum sum(*this, neighbors);
    const int numMoved = moved.size();
    for (int64_t row = 0; row < numRows; row++) {
        if (isLeftOut[row])
            continue;
        const double* x = positions + 3 * numMoved * row;
        for (int i = 0; i < numMoved; i++)
            sum.place(i, Vec3(x[3 * i], x[3 * i + 1], x[3 * i + 2]));
        energies[row] += sum.compute();
    }
}
