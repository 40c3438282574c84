// The pickle of a torch.save file, read by a stack machine that knows the opcodes which torch.save writes for
// dictionaries of tensors and numbers (Python's pickletools describes them), and the names of the list in
// torch_pickle.cpp. It calls nothing: a tensor is a note of what would have been rebuilt.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace oscar {

enum class PickleKind : uint8_t { kNone, kBool, kInt, kFloat, kText, kTuple, kList, kDict, kName, kStorage, kTensor };

// "an integer", for error texts.
const char* pickle_kind_name(PickleKind kind);

// The names that a pickle may mention.
enum class TorchName : uint8_t { kOrderedDict, kRebuildTensor, kDouble, kFloat, kHalf, kBFloat16, kOtherStorage };

// Pickles of more bytes than this are refused: it is enough for 4096 layers.
inline constexpr uint64_t kMaxPickleBytes = 1u << 20;

class TorchPickle {
 public:
  using Id = uint32_t;  // a value
  struct Pair {
    Id key, value;
    uint32_t next;
  };

  // Borrows the bytes. `file` is how error texts call the file. Throws Error: CORRUPT; UNSUPPORTED for opcodes, names
  // and protocols that are not served. Takes at most 64 bytes of memory for each byte, in time linear in them.
  TorchPickle(std::span<const uint8_t> bytes, const char* file);

  Id root() const { return root_; }
  PickleKind kind(Id id) const { return values_[id].kind; }
  const char* kind_name(Id id) const { return pickle_kind_name(kind(id)); }
  // Each for its kind only.
  int32_t integer(Id id) const { return static_cast<int32_t>(values_[id].a); }
  std::string_view text(Id id) const;
  TorchName name(Id id) const { return static_cast<TorchName>(values_[id].a); }
  std::span<const Id> tuple(Id id) const { return std::span(items_).subspan(values_[id].a, values_[id].b); }
  Id arguments(Id id) const { return values_[id].a; }  // kTensor, kStorage: the tuple it was made from

  uint32_t dict_size(Id id) const { return values_[id].c; }
  // visit(key, value) for every pair, in the order of the file.
  template <class Visit>
  void for_each(Id dict, Visit&& visit) const {
    for (uint32_t at = values_[dict].a; at != 0; at = pairs_[at - 1].next)
      visit(pairs_[at - 1].key, pairs_[at - 1].value);
  }
  // The value under a text key. Throws Error (CORRUPT) where the key is there twice.
  std::optional<Id> find(Id dict, std::string_view key) const;

 private:
  // kBool, kInt, kName: a. kText: b bytes at a. kTuple: b items from a. kList, kDict: pairs a (first) to b (last), as
  // index + 1, c of them. kStorage, kTensor: a, a tuple.
  struct Value {
    PickleKind kind;
    uint32_t a, b, c;
  };

  [[noreturn]] __attribute__((format(printf, 2, 3))) void corrupt(const char* format, ...) const;
  uint32_t number(uint32_t size);
  std::string_view line();
  Id push(Value value);
  Id pop();
  uint32_t pop_mark();
  void memorize(uint32_t index);
  void recall(uint32_t index);
  void make_text();
  void make_name();
  void make_tuple(uint32_t first);
  void make_storage();
  void reduce();
  void append(PickleKind kind, uint32_t first, uint32_t step);
  bool make_scalar(uint8_t opcode);
  bool make_container(uint8_t opcode);
  bool use_memo(uint8_t opcode);

  std::span<const uint8_t> bytes_;
  const char* file_;
  uint64_t at_ = 0, opcode_at_ = 0;
  std::vector<Value> values_;
  std::vector<Id> items_, stack_;
  std::vector<uint32_t> marks_;  // heights of the stack
  std::vector<Id> memo_;         // id + 1; 0: none
  std::vector<Pair> pairs_;
  Id root_ = 0;
};

}  // namespace oscar
