#include "PairTerms.h"
#include "NearestImages.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cmath>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;
using at::Tensor;

/** Pairs that are closer (nm) are looked at first. */
static const double CLASH_DISTANCE = 0.2;
/** How many pairs are worked on at a time, so that intermediate results stay in the cache of a CPU. */
static const int64_t PAIRS_AT_A_TIME_CPU = 1 << 17, PAIRS_AT_A_TIME_GPU = 1 << 23;

static Tensor toTensor(const vector<double>& values, at::Device device) {
    return at::from_blob(const_cast<double*>(values.data()), {(int64_t)values.size()}, at::kDouble)
            .to(device, at::kDouble, false, true);
}

PairTerms::PairTerms(const PairForm& form, const BlockParticles& block, double clashEnergy)
        : form(&form), clashEnergy(clashEnergy), moved(block.moved), notNeighbors(block.moved),
          device(at::kCPU) {
    notNeighbors.insert(notNeighbors.end(), block.following.begin(), block.following.end());
    sort(notNeighbors.begin(), notNeighbors.end());
    if (form.nonbonded)
        loop.emplace(form, block, clashDistance(), clashEnergy);
    for (auto [p1, p2] : form.exclusions)
        for (auto pair : {make_pair(p1, p2), make_pair(p2, p1)})
            if (block.isMoved(pair.first)) {
                excluded.insert(pair);
                excludedAny.insert(pair.second);
            }
}

/**
 * A function of integers, which are rounded as OpenMM does.
 */
static TensorExpression::Function discreteFunction(const FunctionTable& table, at::Device device) {
    Tensor values = at::from_blob(const_cast<double*>(table.values.data()), {(int64_t)table.values.size()},
                                  at::kDouble)
                            .to(device);
    return [values, &table](const vector<Tensor>& x) {
        Tensor index;
        int64_t stride = 1;
        for (size_t i = 0; i < x.size(); i++) {
            Tensor place = at::clamp(at::nan_to_num(at::round(x[i])), 0, table.sizes[i] - 1).to(at::kLong);
            index = index.defined() ? index + stride * place : place;
            stride *= table.sizes[i];
        }
        index = index.to(values.device());
        return values.index_select(0, index.flatten()).view(index.sizes());
    };
}

/**
 * A cubic spline, which is zero beyond its bounds (OpenMM's SplineFitter::evaluateSpline).
 */
static TensorExpression::Function splineFunction(const FunctionTable& table, at::Device device) {
    const int64_t count = table.values.size();
    Tensor values = toTensor(table.values, device), second = toTensor(table.secondDerivatives, device);
    return [=, &table](const vector<Tensor>& arguments) {
        const double width = table.high - table.low, step = width / (count - 1);
        Tensor x = (arguments[0].to(values.device()) - table.low);
        if (table.periodic)
            x = at::remainder(x, width);
        Tensor place = at::clamp(at::nan_to_num(at::floor(x / step)), 0, count - 2).to(at::kLong);
        auto look = [&](const Tensor& of, const Tensor& index) {
            return of.index_select(0, index.flatten()).view(index.sizes());
        };
        Tensor b = x / step - place, a = 1 - b;
        Tensor curved = (a * a * a - a) * look(second, place) + (b * b * b - b) * look(second, place + 1);
        Tensor result = a * look(values, place) + b * look(values, place + 1) + curved * (step * step / 6);
        return table.periodic ? result : at::where((x < 0) | (x > width), at::zeros_like(result), result);
    };
}

double PairTerms::clashDistance() const {
    return form->cutoff == 0 ? CLASH_DISTANCE : min(CLASH_DISTANCE, form->cutoff);
}

void PairTerms::setPositions(shared_ptr<const SystemState> newState) {
    state = newState;
}

void PairTerms::setState(shared_ptr<const SystemState> newState, at::Device newDevice) {
    setPositions(newState);
    device = newDevice;
    if (form->periodic)
        for (int k = 0; k < 3; k++)
            if (state->box[k][k] < 1.999999 * form->cutoff)
                throw OpenMMException("Timewarp: the periodic box is smaller than twice the cut-off of the " +
                                      form->name);
    for (const string& name : form->globals)
        globals[name] = at::scalar_tensor(state->parameters.at(name), at::kDouble);
    for (const auto& [name, table] : form->functions)
        functions[name] =
                table.sizes.empty() ? splineFunction(table, device) : discreteFunction(table, device);
}

PairTerms::Neighbors PairTerms::findNeighbors(const MovedRegion& region) const {
    Neighbors found;
    region.visitNeighbors(*state, notNeighbors, form->cutoff, box(), [&](int particle, const Vec3& p) {
        found.particles.push_back(particle);
        found.positions.insert(found.positions.end(), {p[0], p[1], p[2]});
    });
    return found;
}

TensorExpression::Values PairTerms::parametersOf(const vector<int>& particles) const {
    TensorExpression::Values values;
    for (size_t column = 0; column < form->parameters.columns.size(); column++) {
        vector<double> parameters;
        for (int particle : particles)
            parameters.push_back(form->parameters.get(particle, column, state->parameters));
        values[form->parameters.columns[column]] = toTensor(parameters, device);
    }
    TensorExpression::Values known = values;
    known.insert(globals.begin(), globals.end());
    for (const auto& [name, expression] : form->computed)
        values[name] = expression->evaluate(known, functions).expand({(int64_t)particles.size()});
    return values;
}

/**
 * How often a pair counts with its particles in this order: 0 or 1, or for each pair of groups.
 */
double PairTerms::weight(int first, int second) const {
    if (excludedAny.count(second) > 0 && excluded.count({first, second}) > 0)
        return 0;
    if (excludedAny.count(first) > 0 && excluded.count({second, first}) > 0)
        return 0;
    if (form->groups.empty())
        return 1;
    double count = 0;
    for (const auto& [group1, group2] : form->groups) {
        if (group1.count(first) == 0 || group2.count(second) == 0)
            continue;
        bool isTwice = (group1.count(second) > 0 && group2.count(first) > 0);
        if (!isTwice || first < second)
            count++;
    }
    return count;
}

/**
 * The pairs of a table with their particles in one order or the other.
 */
struct PairTerms::PairLayout {
    /** What depends on parameters alone. */
    TensorExpression::Steps prepared;
    /** How often each pair counts. */
    Tensor weights;
    /** Which pairs count at all, as booleans and as a list. */
    Tensor counts, columns;
};

/**
 * What is known of pairs before their distances: a grid of all pairs of two lists, or a list of pairs.
 */
struct PairTerms::PairTable {
    vector<PairLayout> layouts;
    /** That of the parameters. */
    vector<int64_t> shape;
    int64_t numPairs;

    /** Pick pairs from prepared parameters. */
    Tensor pick(const Tensor& parameters, const Tensor& columns) const {
        return parameters.expand(shape).reshape({-1}).index_select(0, columns);
    }
};

PairTerms::PairTable PairTerms::makeTable(const vector<int>& first, const vector<int>& second,
                                          bool isGrid) const {
    PairTable table;
    const int64_t rows = first.size(), columns = second.size();
    table.shape = isGrid ? vector<int64_t>{rows, columns} : vector<int64_t>{rows};
    table.numPairs = isGrid ? rows * columns : rows;
    TensorExpression::Values ofFirst = parametersOf(first), ofSecond = parametersOf(second);
    for (bool swapped : {false, true}) {
        if (swapped && form->groups.empty())
            break;
        TensorExpression::Values values = globals;
        for (const auto& [name, value] : ofFirst)
            values[name + (swapped ? "2" : "1")] = isGrid ? value.unsqueeze(1) : value;
        for (const auto& [name, value] : ofSecond)
            values[name + (swapped ? "1" : "2")] = isGrid ? value.unsqueeze(0) : value;
        vector<double> weights;
        weights.reserve(table.numPairs);
        for (int64_t k = 0; k < table.numPairs; k++) {
            int i = first[isGrid ? k / columns : k], j = second[isGrid ? k % columns : k];
            weights.push_back(swapped ? weight(j, i) : weight(i, j));
        }
        PairLayout layout;
        layout.prepared = form->expression->prepare(values, functions);
        layout.weights = toTensor(weights, device);
        layout.counts = layout.weights != 0;
        layout.columns = layout.counts.nonzero().squeeze(1);
        if (layout.columns.numel() > 0)
            table.layouts.push_back(layout);
    }
    return table;
}

/**
 * Compute the energies of pairs.
 *
 * @param squares   squared distances of some pairs (nm^2), of any shape whose last dimension is the columns'
 * @param columns   which pairs of the table they are
 */
Tensor PairTerms::evaluate(const PairLayout& layout, const PairTable& table, const Tensor& squares,
                           const Tensor& columns) const {
    Tensor r = at::sqrt(squares);
    Tensor energies =
            form->expression->finish(layout.prepared, {{"r", r}}, functions,
                                     [&](const Tensor& value) { return table.pick(value, columns); });
    energies = energies.expand_as(squares);
    if (!form->groups.empty())
        energies = energies * layout.weights.index_select(0, columns);
    if (form->switching > 0) {
        Tensor t = at::clamp_min((r - form->switching) / (form->cutoff - form->switching), 0);
        energies = energies * (1 + t * t * t * (-10 + t * (15 - 6 * t)));
    }
    return energies;
}

/**
 * Add up the energies of the pairs of each row; where particles clash, those of the closest pairs alone.
 *
 * @param squares   squared distances, [B, pairs] (nm^2)
 */
Tensor PairTerms::rowEnergies(const PairTable& table, const Tensor& squares) const {
    Tensor sum = energiesWithin(clashDistance(), table, squares);
    Tensor rows = (sum <= clashEnergy).nonzero().squeeze(1);
    if (rows.numel() == sum.numel())
        return allEnergies(table, squares);
    if (rows.numel() == 0)
        return sum;
    return sum.index_copy_(0, rows, allEnergies(table, squares.index_select(0, rows)));
}

Tensor PairTerms::allEnergies(const PairTable& table, const Tensor& squares) const {
    if (form->cutoff > 0)
        return energiesWithin(form->cutoff, table, squares);
    Tensor sum = at::zeros({squares.size(0)}, squares.options());
    for (const PairLayout& layout : table.layouts) {
        bool takesAll = (layout.columns.numel() == table.numPairs);
        Tensor taken = takesAll ? squares : squares.index_select(1, layout.columns);
        sum = sum + evaluate(layout, table, taken, layout.columns).sum(1);
    }
    return sum;
}

Tensor PairTerms::energiesWithin(double distance, const PairTable& table, const Tensor& squares) const {
    Tensor sum = at::zeros({squares.size(0)}, squares.options());
    for (const PairLayout& layout : table.layouts) {
        // What costs time is done for the pairs within the cut-off only.  They are sorted by row, so that the
        // sum of each is of consecutive numbers, and the same each time.

        Tensor isWithin = (squares < distance * distance) & layout.counts;
        Tensor places = isWithin.view({-1}).nonzero().squeeze(1);
        Tensor energies = evaluate(layout, table, squares.view({-1}).index_select(0, places),
                                   at::remainder(places, table.numPairs));
        sum = sum + at::segment_reduce(energies, "sum", isWithin.sum(1), {}, {}, 0, true, 0.0);
    }
    return sum;
}

/**
 * Get squared distances of all from all (nm^2).
 *
 * @param x   positions [A, 3]
 * @param y   positions [N, 3]
 * @return [A, N]
 */
static Tensor squaredDistances(const Tensor& x, const Tensor& y) {
    auto squares = [](const Tensor& p) { return (p * p).sum(1, true); };
    auto ones = [](const Tensor& p) { return at::ones({p.size(0), 1}, p.options()); };
    return at::matmul(at::cat({-2 * x, squares(x), ones(x)}, 1), at::cat({y, ones(y), squares(y)}, 1).t());
}

Tensor PairTerms::energies(const MovedRegion& region, vector<char>& clashes) const {
    return loop && device.is_cpu() ? loopEnergies(region, clashes) : expressionEnergies(region);
}

Tensor PairTerms::loopEnergies(const MovedRegion& region, vector<char>& clashes) const {
    const vector<int> neighbors = region.findNeighbors(*state, notNeighbors, form->cutoff, box());
    Tensor x = region.absolute.contiguous();
    Tensor results = at::empty({x.size(0)}, x.options());
    loop->compute(*state, neighbors, x.data_ptr<double>(), x.size(0), results.data_ptr<double>(), clashes);
    return results;
}

Tensor PairTerms::expressionEnergies(const MovedRegion& region) const {
    Neighbors neighbors = findNeighbors(region);
    PairTable outer = makeTable(moved, neighbors.particles, true);
    vector<int> first, second;
    vector<int64_t> firstAtoms, secondAtoms;
    for (size_t i = 0; i < moved.size(); i++)
        for (size_t j = i + 1; j < moved.size(); j++) {
            first.push_back(moved[i]);
            second.push_back(moved[j]);
            firstAtoms.push_back(i);
            secondAtoms.push_back(j);
        }
    PairTable inner = makeTable(first, second, false);
    Tensor fixed = toTensor(neighbors.positions, device).view({-1, 3});
    auto indices = [&](const vector<int64_t>& atoms) {
        return at::from_blob(const_cast<int64_t*>(atoms.data()), {(int64_t)atoms.size()}, at::kLong)
                .to(device);
    };
    Tensor i = indices(firstAtoms), j = indices(secondAtoms);

    const int64_t limit = device.is_cuda() ? PAIRS_AT_A_TIME_GPU : PAIRS_AT_A_TIME_CPU;
    const int64_t rows = max<int64_t>(1, limit / max<int64_t>(1, outer.numPairs));
    vector<Tensor> parts;
    for (const Tensor& x : region.positions.split(rows)) {
        Tensor distances = squaredDistances(x.reshape({-1, 3}), fixed).view({x.size(0), -1});
        Tensor between = x.index_select(1, i) - x.index_select(1, j);
        if (form->periodic)
            between = nearestImages(between, state->box);
        parts.push_back(rowEnergies(outer, distances) + rowEnergies(inner, (between * between).sum(-1)));
    }
    return at::cat(parts);
}
