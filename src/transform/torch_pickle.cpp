#include "transform/torch_pickle.h"

#include <cstdarg>
#include <cstdio>

#include "format/error.h"
#include "transform/torch_zip.h"

namespace oscar {
namespace {

struct KnownName {
  std::string_view module, name;
  TorchName means;
};

constexpr KnownName kKnownNames[] = {
    {"collections", "OrderedDict", TorchName::kOrderedDict},
    {"torch._utils", "_rebuild_tensor_v2", TorchName::kRebuildTensor},
    {"torch", "DoubleStorage", TorchName::kDouble},
    {"torch", "FloatStorage", TorchName::kFloat},
    {"torch", "HalfStorage", TorchName::kHalf},
    {"torch", "BFloat16Storage", TorchName::kBFloat16},
    // Of tensors beside the rotations, which nobody reads.
    {"torch", "LongStorage", TorchName::kOtherStorage},
    {"torch", "IntStorage", TorchName::kOtherStorage},
    {"torch", "ShortStorage", TorchName::kOtherStorage},
    {"torch", "CharStorage", TorchName::kOtherStorage},
    {"torch", "ByteStorage", TorchName::kOtherStorage},
    {"torch", "BoolStorage", TorchName::kOtherStorage},
};

}  // namespace

const char* pickle_kind_name(PickleKind kind) {
  switch (kind) {
    case PickleKind::kNone: return "None";
    case PickleKind::kBool: return "a bool";
    case PickleKind::kInt: return "an integer";
    case PickleKind::kFloat: return "a float";
    case PickleKind::kText: return "a text";
    case PickleKind::kTuple: return "a tuple";
    case PickleKind::kList: return "a list";
    case PickleKind::kDict: return "a dictionary";
    case PickleKind::kName: return "a name";
    case PickleKind::kStorage: return "a storage";
    case PickleKind::kTensor: return "a tensor";
  }
  return "unknown";
}

void TorchPickle::corrupt(const char* format, ...) const {
  char what[320];
  va_list args;
  va_start(args, format);
  vsnprintf(what, sizeof what, format, args);
  va_end(args);
  throw Error(Status::kCorrupt, "%s: byte %llu of data.pkl: %s", file_, static_cast<unsigned long long>(opcode_at_),
              what);
}

TorchPickle::TorchPickle(std::span<const uint8_t> bytes, const char* file) : bytes_(bytes), file_(file) {
  if (bytes.size() > kMaxPickleBytes)
    throw Error(Status::kUnsupported, "%s: data.pkl has %zu bytes, served: at most %llu", file, bytes.size(),
                static_cast<unsigned long long>(kMaxPickleBytes));
  if (bytes.size() < 2 || bytes[0] != 0x80) corrupt("data.pkl does not begin with its protocol");
  if (bytes[1] != 2)
    throw Error(Status::kUnsupported, "%s: data.pkl is of pickle protocol %u, served: 2, which torch.save writes", file,
                bytes[1]);
  for (at_ = 2;;) {
    opcode_at_ = at_;
    const auto opcode = static_cast<uint8_t>(number(1));
    if (opcode == '.') break;
    if (!make_scalar(opcode) && !make_container(opcode) && !use_memo(opcode))
      throw Error(Status::kUnsupported, "%s: byte %llu of data.pkl: the opcode 0x%02x is not served", file,
                  static_cast<unsigned long long>(opcode_at_), opcode);
  }
  if (stack_.size() != 1 || !marks_.empty())
    corrupt("the pickle ends with %zu values and %zu marks, wanted 1 and 0", stack_.size(), marks_.size());
  if (at_ != bytes.size()) corrupt("%zu bytes follow the end of the pickle", bytes.size() - static_cast<size_t>(at_));
  root_ = stack_[0];
}

bool TorchPickle::make_scalar(uint8_t opcode) {
  switch (opcode) {
    case 'N': push({PickleKind::kNone, 0, 0, 0}); return true;
    case 0x88: push({PickleKind::kBool, 1, 0, 0}); return true;
    case 0x89: push({PickleKind::kBool, 0, 0, 0}); return true;
    case 'K': push({PickleKind::kInt, number(1), 0, 0}); return true;
    case 'M': push({PickleKind::kInt, number(2), 0, 0}); return true;
    case 'J': push({PickleKind::kInt, number(4), 0, 0}); return true;
    case 'G':  // its value is nobody's business here
      number(4);
      number(4);
      push({PickleKind::kFloat, 0, 0, 0});
      return true;
    case 'X': make_text(); return true;
    case 'c': make_name(); return true;
    default: return false;
  }
}

bool TorchPickle::make_container(uint8_t opcode) {
  const auto top = [this](uint32_t n) {
    const uint32_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() - floor < n) corrupt("%u values are wanted, the stack has %zu", n, stack_.size() - floor);
    return static_cast<uint32_t>(stack_.size()) - n;
  };
  switch (opcode) {
    case '(': marks_.push_back(static_cast<uint32_t>(stack_.size())); return true;
    case '}': push({PickleKind::kDict, 0, 0, 0}); return true;
    case ']': push({PickleKind::kList, 0, 0, 0}); return true;
    case ')': make_tuple(top(0)); return true;
    case 't': make_tuple(pop_mark()); return true;
    case 0x85: make_tuple(top(1)); return true;
    case 0x86: make_tuple(top(2)); return true;
    case 0x87: make_tuple(top(3)); return true;
    case 's': append(PickleKind::kDict, top(2), 2); return true;
    case 'u': append(PickleKind::kDict, pop_mark(), 2); return true;
    case 'a': append(PickleKind::kList, top(1), 1); return true;
    case 'e': append(PickleKind::kList, pop_mark(), 1); return true;
    case 'Q': make_storage(); return true;
    case 'R': reduce(); return true;
    default: return false;
  }
}

bool TorchPickle::use_memo(uint8_t opcode) {
  switch (opcode) {
    case 'q': memorize(number(1)); return true;
    case 'r': memorize(number(4)); return true;
    case 'h': recall(number(1)); return true;
    case 'j': recall(number(4)); return true;
    default: return false;
  }
}

uint32_t TorchPickle::number(uint32_t size) {
  if (bytes_.size() - at_ < size) corrupt("the pickle ends within an opcode");
  uint32_t value = 0;
  for (uint32_t i = 0; i < size; ++i) value |= uint32_t{bytes_[at_ + i]} << 8 * i;
  at_ += size;
  return value;
}

std::string_view TorchPickle::line() {
  const uint64_t first = at_;
  while (number(1) != '\n') continue;
  return {reinterpret_cast<const char*>(bytes_.data()) + first, at_ - first - 1};
}

std::string_view TorchPickle::text(Id id) const {
  return {reinterpret_cast<const char*>(bytes_.data()) + values_[id].a, values_[id].b};
}

TorchPickle::Id TorchPickle::push(Value value) {
  const auto id = static_cast<Id>(values_.size());
  values_.push_back(value);
  stack_.push_back(id);
  return id;
}

// A mark hides what lies below it.
TorchPickle::Id TorchPickle::pop() {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) corrupt("a value is wanted, the stack has none");
  const Id id = stack_.back();
  stack_.pop_back();
  return id;
}

uint32_t TorchPickle::pop_mark() {
  if (marks_.empty()) corrupt("a mark is wanted, there is none");
  const uint32_t height = marks_.back();
  marks_.pop_back();
  return height;
}

void TorchPickle::memorize(uint32_t index) {
  const Id id = pop();
  stack_.push_back(id);
  // Picklers number the memo from 0 on, and every entry takes bytes.
  if (index >= bytes_.size()) corrupt("the memo's index is %u, the pickle has %zu bytes", index, bytes_.size());
  if (index >= memo_.size()) memo_.resize(index + 1, 0);
  memo_[index] = id + 1;
}

void TorchPickle::recall(uint32_t index) {
  if (index >= memo_.size() || memo_[index] == 0) corrupt("the memo has no entry %u", index);
  stack_.push_back(memo_[index] - 1);
}

void TorchPickle::make_text() {
  const uint32_t size = number(4);
  if (bytes_.size() - at_ < size)
    corrupt("a text has %u bytes, the pickle has %llu more", size,
            static_cast<unsigned long long>(bytes_.size() - at_));
  push({PickleKind::kText, static_cast<uint32_t>(at_), size, 0});
  at_ += size;
}

void TorchPickle::make_name() {
  const std::string_view module = line(), name = line();
  for (const KnownName& known : kKnownNames)
    if (known.module == module && known.name == name) {
      push({PickleKind::kName, static_cast<uint32_t>(known.means), 0, 0});
      return;
    }
  throw Error(Status::kUnsupported, "%s: byte %llu of data.pkl: it names %s.%s, which no file of rotations needs",
              file_, static_cast<unsigned long long>(opcode_at_), printable(module).c_str(), printable(name).c_str());
}

void TorchPickle::make_tuple(uint32_t first) {
  const auto begin = static_cast<uint32_t>(items_.size()), count = static_cast<uint32_t>(stack_.size()) - first;
  items_.insert(items_.end(), stack_.begin() + first, stack_.end());
  stack_.resize(first);
  push({PickleKind::kTuple, begin, count, 0});
}

void TorchPickle::make_storage() {
  const Id id = pop();
  if (kind(id) != PickleKind::kTuple) corrupt("a persistent id is %s, wanted a tuple", kind_name(id));
  push({PickleKind::kStorage, id, 0, 0});
}

void TorchPickle::reduce() {
  const Id arguments = pop(), called = pop();
  if (kind(called) != PickleKind::kName || kind(arguments) != PickleKind::kTuple)
    corrupt("%s is called with %s, wanted a name and a tuple", kind_name(called), kind_name(arguments));
  if (name(called) == TorchName::kRebuildTensor) {
    push({PickleKind::kTensor, arguments, 0, 0});
  } else if (name(called) == TorchName::kOrderedDict && tuple(arguments).empty()) {
    push({PickleKind::kDict, 0, 0, 0});
  } else {
    corrupt("a storage is called, or an OrderedDict with arguments");
  }
}

// Moves the stack from `first` on into the dictionary (keys and values in turn) or list below.
void TorchPickle::append(PickleKind wanted, uint32_t first, uint32_t step) {
  const auto height = static_cast<uint32_t>(stack_.size());
  if (first == (marks_.empty() ? 0 : marks_.back())) corrupt("there is nothing to append to");
  const Id container = stack_[first - 1];
  if (kind(container) != wanted)
    corrupt("items are appended to %s, wanted %s", kind_name(container), pickle_kind_name(wanted));
  if ((height - first) % step != 0) corrupt("%u keys and values are not pairs", height - first);
  for (uint32_t i = first; i < height; i += step) {
    pairs_.push_back({stack_[i], stack_[i + step - 1], 0});
    const auto number = static_cast<uint32_t>(pairs_.size());
    Value& value = values_[container];
    (value.c == 0 ? value.a : pairs_[value.b - 1].next) = number;
    value.b = number;
    ++value.c;
  }
  stack_.resize(first);
}

std::optional<TorchPickle::Id> TorchPickle::find(Id dict, std::string_view key) const {
  std::optional<Id> found;
  for_each(dict, [&](Id name, Id value) {
    if (kind(name) != PickleKind::kText || text(name) != key) return;
    if (found)
      throw Error(Status::kCorrupt, "%s: a dictionary of data.pkl has the key \"%s\" twice", file_,
                  printable(key).c_str());
    found = value;
  });
  return found;
}

}  // namespace oscar
