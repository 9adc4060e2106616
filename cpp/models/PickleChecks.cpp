#include "PickleChecks.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

static const size_t MAX_PICKLE = 16 << 20;
// A value takes a byte or more, but a hundred in memory.
static const size_t MAX_VALUES = 1000000;
// Torch walks through what it has read by recursion.
static const int MAX_DEPTH = 200;

/** Of the elements of a storage, in bytes; a name is that of a module and of what it holds, a line each. */
static const map<string_view, int> ELEMENT_SIZES = {
        {"torch\nFloatStorage", 4},        {"torch\nDoubleStorage", 8},
        {"torch\nHalfStorage", 2},         {"torch\nBFloat16Storage", 2},
        {"torch\nLongStorage", 8},         {"torch\nIntStorage", 4},
        {"torch\nShortStorage", 2},        {"torch\nCharStorage", 1},
        {"torch\nByteStorage", 1},         {"torch\nBoolStorage", 1},
        {"torch\nComplexFloatStorage", 8}, {"torch\nComplexDoubleStorage", 16}};
static const string_view REBUILD_TENSOR = "torch._utils\n_rebuild_tensor_v2";
static const string_view ORDERED_DICT = "collections\nOrderedDict";
static const string_view TYPED_LIST = "torch.jit._pickle\nbuild_";
static const string_view TYPE_TAG = "torch.jit._pickle\nrestore_type_tag";
static const string_view OWN_CLASS = "__torch__";

namespace {

enum Kind { NONE, BOOLEAN, INTEGER, REAL, TEXT, GLOBAL, TUPLE, LIST, DICT, OBJECT, STORAGE, TENSOR };

struct Value {
    Kind kind;
    int64_t integer = 0;
    /** Within the pickle. */
    string_view text = {};
    /** Places of what it holds. */
    vector<int> items = {};
};

bool beginsWith(string_view text, string_view prefix) {
    return text.substr(0, prefix.size()) == prefix;
}

/**
 * Reads a pickle as torch does, without making anything of what it says.  Instructions are those of Python's
 * pickletools, as far as torch.jit.save writes them.
 */
class PickleReader {
public:
    PickleReader(const string& pickle, const string& tensors, const map<string, string>& members)
            : pickle(pickle), tensors(tensors), members(members) {
    }

    void check() {
        require(pickle.size() <= MAX_PICKLE && pickle.size() >= 2, "has an impossible size");
        while (!stopped)
            step();
        require(position == pickle.size() && stack.size() == 1 && marks.empty(), "is incomplete");
        checkDepth(stack[0]);
    }

private:
    [[noreturn]] static void fail(const string& what) {
        throw OpenMMException("a pickle in it " + what);
    }

    static void require(bool condition, const char* what) {
        if (!condition)
            fail(what);
    }

    uint64_t number(int size) {
        require(pickle.size() - position >= (size_t)size, "is incomplete");
        uint64_t value = 0;
        for (int i = size - 1; i >= 0; i--)
            value = value << 8 | (unsigned char)pickle[position + i];
        position += size;
        return value;
    }

    string_view bytes(uint64_t size) {
        require(pickle.size() - position >= size, "is incomplete");
        position += size;
        return string_view(pickle).substr(position - size, size);
    }

    void skipLine() {
        size_t end = pickle.find('\n', position);
        require(end != string::npos, "is incomplete");
        position = end + 1;
    }

    int64_t longInteger() {
        int size = number(1);
        require(size <= 8, "holds a number beyond 64 bits");
        uint64_t value = number(size);
        if (size > 0 && size < 8 && value >> (8 * size - 1))
            value |= ~0ULL << (8 * size);
        return (int64_t)value;
    }

    void push(Value value) {
        require(values.size() < MAX_VALUES, "holds too many values");
        stack.push_back(values.size());
        values.push_back(move(value));
    }

    void push(Kind kind, int64_t integer = 0, string_view text = {}) {
        push(Value{kind, integer, text});
    }

    Value& top() {
        return values[place()];
    }

    int place() {
        require(!stack.empty() && (marks.empty() || stack.size() > marks.back()), "is malformed");
        return stack.back();
    }

    int pop() {
        int last = place();
        stack.pop_back();
        return last;
    }

    vector<int> popToMark() {
        require(!marks.empty() && marks.back() <= stack.size(), "is malformed");
        vector<int> items(stack.begin() + marks.back(), stack.end());
        stack.resize(marks.back());
        marks.pop_back();
        return items;
    }

    void pushTuple(int size) {
        vector<int> items(size);
        for (int i = size - 1; i >= 0; i--)
            items[i] = pop();
        push(Value{TUPLE, 0, {}, move(items)});
    }

    /** What is remembered is numbered from zero on. */
    void remember(uint64_t index) {
        require(index <= memo.size(), "is malformed");
        if (index == memo.size())
            memo.push_back(place());
        memo[index] = place();
    }

    void recall(uint64_t index) {
        require(index < memo.size(), "is malformed");
        stack.push_back(memo[index]);
    }

    void extend(Kind kind) {
        vector<int> items = popToMark();
        require(top().kind == kind && (kind == LIST || items.size() % 2 == 0), "is malformed");
        top().items.insert(top().items.end(), items.begin(), items.end());
    }

    void pushGlobal() {
        size_t start = position;
        skipLine();
        skipLine();
        string_view name = string_view(pickle).substr(start, position - start - 1);
        if (!isAllowed(name)) {
            string shown(name);
            replace(shown.begin(), shown.end(), '\n', ' ');
            fail("asks for " + shown + ", which can run code that is not the file's own");
        }
        push(GLOBAL, 0, name);
    }

    static bool isAllowed(string_view name) {
        if (beginsWith(name, OWN_CLASS))
            return name.find("torch.classes") == string_view::npos;
        if (beginsWith(name, TYPED_LIST))
            for (const char* type : {"intlist", "tensorlist", "doublelist", "boollist"})
                if (name.substr(TYPED_LIST.size()) == type)
                    return true;
        return ELEMENT_SIZES.count(name) || name == REBUILD_TENSOR || name == ORDERED_DICT ||
               name == TYPE_TAG;
    }

    /** Whether a value is a tuple of some kinds. */
    bool isTuple(int at, initializer_list<Kind> kinds) const {
        const Value& tuple = values[at];
        if (tuple.kind != TUPLE || tuple.items.size() != kinds.size())
            return false;
        for (size_t i = 0; i < kinds.size(); i++)
            if (values[tuple.items[i]].kind != kinds.begin()[i])
                return false;
        return true;
    }

    const Value& item(int at, int i) const {
        return values[values[at].items[i]];
    }

    void pushStorage() {
        int id = pop();
        require(isTuple(id, {TEXT, GLOBAL, TEXT, TEXT, INTEGER}) && item(id, 0).text == "storage" &&
                        ELEMENT_SIZES.count(item(id, 1).text),
                "holds no proper storage of a tensor");
        string_view device = item(id, 3).text;
        if (device != "cpu" && !beginsWith(device, "cuda"))
            fail("holds a tensor on a device " + string(device));
        int64_t count = item(id, 4).integer;
        auto member = members.find(tensors + string(item(id, 2).text));
        uint64_t available = (member == members.end() ? 0 : member->second.size());
        require(count >= 0 && (uint64_t)count <= available / ELEMENT_SIZES.at(item(id, 1).text),
                "holds a tensor that is larger than its data");
        push(STORAGE, count);
    }

    void checkTensor(int arguments) {
        require(isTuple(arguments, {STORAGE, INTEGER, TUPLE, TUPLE, BOOLEAN, DICT}),
                "holds no proper tensor");
        const vector<int>&sizes = item(arguments, 2).items, &strides = item(arguments, 3).items;
        int64_t count = item(arguments, 0).integer, last = item(arguments, 1).integer;
        require(sizes.size() == strides.size() && sizes.size() <= 64 && last >= 0 && last <= count,
                "holds no proper tensor");
        bool empty = false;
        for (size_t i = 0; i < sizes.size(); i++) {
            const Value &size = values[sizes[i]], &stride = values[strides[i]];
            require(size.kind == INTEGER && stride.kind == INTEGER && size.integer >= 0 &&
                            stride.integer >= 0,
                    "holds no proper tensor");
            empty |= (size.integer == 0);
        }
        for (size_t i = 0; i < sizes.size() && !empty; i++) {
            int64_t steps = values[sizes[i]].integer - 1, stride = values[strides[i]].integer;
            require(steps == 0 || stride <= (count - last) / steps,
                    "holds a tensor that is larger than its data");
            last += steps * stride;
        }
        require(empty || last < count, "holds a tensor that is larger than its data");
        checkNumberOfElements(sizes);
    }

    /** With strides of zero a tensor of any number of elements lies within few. */
    void checkNumberOfElements(const vector<int>& sizes) {
        int64_t product = 1;
        for (int size : sizes) {
            int64_t factor = max<int64_t>(values[size].integer, 1);
            require(factor <= (int64_t(1) << 40) / product, "holds a tensor of an impossible size");
            product *= factor;
        }
    }

    void reduce() {
        int arguments = pop(), function = pop();
        require(values[function].kind == GLOBAL && values[arguments].kind == TUPLE, "is malformed");
        string_view name = values[function].text;
        const vector<int>& items = values[arguments].items;
        if (name == REBUILD_TENSOR) {
            checkTensor(arguments);
            push(TENSOR);
        }
        else if (name == ORDERED_DICT) {
            require(items.empty(), "is malformed");
            push(DICT);
        }
        else if (name == TYPE_TAG) {
            require(items.size() == 2 && item(arguments, 1).kind == TEXT &&
                            item(arguments, 1).text.size() < 1000 &&
                            item(arguments, 1).text.find("torch.classes") == string::npos,
                    "gives a value an improper type");
            stack.push_back(items[0]);
        }
        else {
            require(beginsWith(name, TYPED_LIST) && isTuple(arguments, {LIST}), "is malformed");
            checkItems(name, values[items[0]].items);
            stack.push_back(items[0]);
        }
    }

    void checkItems(string_view list, const vector<int>& items) {
        Kind kind = list.find("intlist") != string_view::npos      ? INTEGER
                    : list.find("tensorlist") != string_view::npos ? TENSOR
                    : list.find("doublelist") != string_view::npos ? REAL
                                                                   : BOOLEAN;
        for (int i : items)
            require(values[i].kind == kind, "holds a list of mixed types");
    }

    void newObject() {
        int arguments = pop(), type = pop();
        require(isTuple(arguments, {}) && values[type].kind == GLOBAL &&
                        beginsWith(values[type].text, OWN_CLASS),
                "is malformed");
        push(OBJECT);
    }

    void build() {
        int state = pop();
        require(top().kind == OBJECT && top().items.empty() && values[state].kind == DICT, "is malformed");
        top().items = {state};
    }

    void step() {
        switch (char instruction = (char)number(1)) {
        case '\x80': // PROTO
            require(number(1) == 2, "is of another version");
            break;
        case '.': // STOP
            stopped = true;
            break;
        case 'N':
            return push(NONE);
        case '\x88': // NEWTRUE
        case '\x89': // NEWFALSE
            return push(BOOLEAN);
        case 'K':
            return push(INTEGER, number(1));
        case 'M':
            return push(INTEGER, number(2));
        case 'J':
            return push(INTEGER, (int32_t)number(4));
        case '\x8a': // LONG1
            return push(INTEGER, longInteger());
        case 'G':
            number(8);
            return push(REAL);
        case 'X':
            return push(TEXT, 0, bytes(number(4)));
        case 'c':
            return pushGlobal();
        case '(':
            marks.push_back(stack.size());
            break;
        case ')':
            return push(TUPLE);
        case '\x85': // TUPLE1, 2, 3
        case '\x86':
        case '\x87':
            return pushTuple((unsigned char)instruction - 0x84);
        case 't':
            return push(Value{TUPLE, 0, {}, popToMark()});
        case ']':
            return push(LIST);
        case '}':
            return push(DICT);
        case 'e':
            return extend(LIST);
        case 'u':
            return extend(DICT);
        case 'q':
            return remember(number(1));
        case 'r':
            return remember(number(4));
        case 'h':
            return recall(number(1));
        case 'j':
            return recall(number(4));
        case 'Q':
            return pushStorage();
        case 'R':
            return reduce();
        case '\x81': // NEWOBJ
            return newObject();
        case 'b':
            return build();
        default:
            fail("holds an instruction that torch.jit.save does not write");
        }
    }

    /** Every value stands before the values that hold it, but for what lists and objects are filled with. */
    void checkDepth(int root) {
        enum { NEW, OPEN, DONE };
        vector<char> state(values.size(), NEW);
        vector<int> depth(values.size(), 0), path{root};
        while (!path.empty()) {
            int at = path.back();
            if (state[at] == NEW) {
                state[at] = OPEN;
                for (int i : values[at].items) {
                    require(state[i] != OPEN, "holds itself");
                    if (state[i] == NEW)
                        path.push_back(i);
                }
                continue;
            }
            path.pop_back();
            if (state[at] == DONE)
                continue;
            state[at] = DONE;
            for (int i : values[at].items)
                depth[at] = max(depth[at], depth[i] + 1);
            require(depth[at] <= MAX_DEPTH, "is nested too deeply");
        }
    }

    const string &pickle, &tensors;
    const map<string, string>& members;
    size_t position = 0;
    bool stopped = false;
    vector<Value> values;
    vector<int> stack;
    vector<size_t> marks;
    vector<int> memo;
};

} // namespace

void TimewarpPlugin::checkPickle(const string& pickle, const string& tensors,
                                 const map<string, string>& members) {
    PickleReader(pickle, tensors, members).check();
}
