#include "transform/torch_pickle.h"

#include <doctest/doctest.h>

#include <malloc.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>

#include "format/error.h"
#include "torch_file.h"

using namespace oscar;
using namespace oscar::test;

// The test program's heap, counted: what lies in it now, and the most since `reset`.
namespace {

std::atomic<size_t> heap_now{0}, heap_most{0};

void* counted(size_t size) {
  void* const memory = std::malloc(size ? size : 1);
  if (!memory) throw std::bad_alloc();
  const size_t now = heap_now += malloc_usable_size(memory);
  if (now > heap_most) heap_most = now;
  return memory;
}

void uncounted(void* memory) noexcept {
  if (memory) heap_now -= malloc_usable_size(memory);
  std::free(memory);
}

}  // namespace

void* operator new(size_t size) { return counted(size); }
void* operator new[](size_t size) { return counted(size); }
void operator delete(void* memory) noexcept { uncounted(memory); }
void operator delete[](void* memory) noexcept { uncounted(memory); }
void operator delete(void* memory, size_t) noexcept { uncounted(memory); }
void operator delete[](void* memory, size_t) noexcept { uncounted(memory); }

namespace {

Bytes pickle(std::string_view body) { return bytes_of(std::string(kPickleStart) + std::string(body)); }

std::pair<Status, std::string> refusal(const Bytes& bytes) {
  try {
    TorchPickle read(bytes, "file");
  } catch (const Error& error) {
    return {error.status(), error.what()};
  }
  return {Status{}, "served"};
}

void refused(std::string_view body, Status wanted, std::string_view says) {
  const auto [status, text] = refusal(pickle(body));
  INFO(text);
  CHECK(status == wanted);
  CHECK(text.find(says) != std::string::npos);
}

void refused_as_corrupt(std::string_view body, std::string_view says) { refused(body, Status::kCorrupt, says); }

// `all`, and the part n times.
std::string repeated(std::string_view part, size_t n, std::string all = {}) {
  for (size_t i = 0; i < n; ++i) all += part;
  return all;
}

}  // namespace

TEST_CASE("the stack machine builds what the pickle says") {
  PickleWriter q;
  q.raw(kPickleStart)
      .raw("}q")
      .little(0, 1)
      .raw("(")
      .text("a")
      .integer(7)
      .text("b")
      .integer(-5)
      .text("c")
      .integer(70000);
  q.raw("u").text("d").raw("N\x88\x89\x87").raw("s").text("e").raw("](").integer(1).integer(300).raw("e").integer(2);
  q.raw("as").text("f").raw("G").little(0, 8).raw("s").text("self").raw("h").little(0, 1).raw("s");
  q.text("o").name("collections", "OrderedDict").raw(")Rs").raw(".");
  const Bytes bytes = bytes_of(q.done());
  const TorchPickle read(bytes, "file");
  const auto root = read.root();
  REQUIRE(read.kind(root) == PickleKind::kDict);
  CHECK(read.dict_size(root) == 8);
  CHECK(read.integer(*read.find(root, "a")) == 7);
  CHECK(read.integer(*read.find(root, "b")) == -5);
  CHECK(read.integer(*read.find(root, "c")) == 70000);
  const auto tuple = read.tuple(*read.find(root, "d"));
  REQUIRE(tuple.size() == 3);
  CHECK(read.kind(tuple[0]) == PickleKind::kNone);
  CHECK(read.kind(tuple[2]) == PickleKind::kBool);
  CHECK(read.kind(*read.find(root, "e")) == PickleKind::kList);
  CHECK(read.dict_size(*read.find(root, "e")) == 3);
  CHECK(read.kind(*read.find(root, "f")) == PickleKind::kFloat);
  CHECK(*read.find(root, "self") == root);
  CHECK(read.kind(*read.find(root, "o")) == PickleKind::kDict);
  CHECK_FALSE(read.find(root, "g").has_value());
}

TEST_CASE("no name but those of tensors is known, and nothing is called") {
  for (const auto& [module, name] : {std::pair{"os", "system"},
                                     {"posix", "system"},
                                     {"builtins", "eval"},
                                     {"__builtin__", "getattr"},
                                     {"torch", "load"},
                                     {"torch._utils", "_rebuild_tensor"},
                                     {"collections", "OrderedDict.__init__"},
                                     {"", ""},
                                     {"torch", ""}}) {
    PickleWriter p;
    p.name(module, name).raw("(").text("touch file").raw("tR.");
    refused(p.done(), Status::kUnsupported, std::string("names ") + module + "." + name);
  }
  refused("c\x1b[2Jx\ny\n.", Status::kUnsupported, "?[2Jx.y");
  refused_as_corrupt("ctorch\nFloatStorage\n)R.", "a storage is called");
  refused_as_corrupt("ccollections\nOrderedDict\nK\x01\x85R.", "OrderedDict with arguments");
  refused_as_corrupt("K\x01)R.", "wanted a name and a tuple");
  refused_as_corrupt("ctorch\nFloatStorage\nK\x01R.", "wanted a name and a tuple");
  refused_as_corrupt("K\x01Q.", "a persistent id is an integer");
}

TEST_CASE("every opcode that torch.save does not write is refused") {
  const std::string_view served("NKMJGXc(})]t\x85\x86\x87sau"
                                "eQR.qrhj\x88\x89");
  for (int opcode = 0; opcode < 256; ++opcode) {
    if (served.find(static_cast<char>(opcode)) != std::string_view::npos) continue;
    const auto [status, text] = refusal(pickle(std::string(1, static_cast<char>(opcode)) + std::string(300, '\n')));
    INFO(text);
    CHECK(status == Status::kUnsupported);
    CHECK(text.find("the opcode 0x") != std::string::npos);
  }
  CHECK(refusal({0x80, 4, '}', '.'}).first == Status::kUnsupported);
  CHECK(refusal(bytes_of("}.")).first == Status::kCorrupt);
}

TEST_CASE("a stack, a memo or a mark that is not there is refused") {
  for (const char* body : {"", "K", "M\x01", "J\x01\x01\x01", "G1234567", "X", "X\x01\x01", "ctorch", "ctorch\nFloat",
                           "q", "h", "r123", "j123"})
    refused_as_corrupt(body, "ends within an opcode");
  for (const char* body : {".", "N(.", "NN.", "(", "N)."}) CHECK(refusal(pickle(body)).first == Status::kCorrupt);
  refused_as_corrupt("N.N", "1 bytes follow");
  for (const char* body : {"t", "u", "e"}) refused_as_corrupt(body, "there is none");
  for (const char* body : {"\x85.", "N\x86.", "NN\x87.", "s", "Ns", "a"}) refused_as_corrupt(body, "values are wanted");
  for (const char* body : {"R", "NR", "Q", "q\x01", "N(q\x01", "N(Q", "N(R"})
    CHECK(refusal(pickle(body)).first == Status::kCorrupt);
  refused_as_corrupt("NNs", "nothing to append to");
  refused_as_corrupt("}(NNs", "nothing to append to");
  refused_as_corrupt("(NNu", "nothing to append to");
  refused_as_corrupt("NNNs", "appended to None, wanted a dictionary");
  refused_as_corrupt("}Na", "appended to a dictionary, wanted a list");
  refused_as_corrupt("}(NNNu", "3 keys and values are not pairs");
  refused_as_corrupt("h\x01", "no entry 1");
  refused_as_corrupt("Nq\x02h\x01", "no entry 1");
  refused_as_corrupt(std::string_view("Nr\xff\xff\xff\xff", 6), "memo's index is 4294967295");
  refused_as_corrupt(std::string_view("X\xff\xff\xff\xffx", 6), "a text has 4294967295 bytes, the pickle has 1 more");
}

TEST_CASE("pickles that grow when they are read take memory and time in proportion to their bytes") {
  const size_t size = kMaxPickleBytes - 4096;
  // Deep nesting, marks, tuples of tuples of the memo (2^n values for who walks them), wide dictionaries, a dictionary
  // within itself, and single bytes that make the largest values.
  const std::string bombs[] = {
      repeated("(", size),
      repeated("}", size),
      repeated("]", size),
      repeated(")", size),
      repeated("\x85", size, "N"),
      repeated("q\x01h\x01\x86", size / 5, "N") + ".",
      repeated("NN", size / 2, "}(") + "u.",
      repeated("NNs", size / 3, "}") + ".",
      std::string("}q\0", 3) + repeated(std::string_view("Nh\0s", 4), size / 4) + ".",
      repeated("N", size, "](") + "e.",
      repeated("Q)", size / 2, ")"),
      repeated(std::string_view("Nr\0\xe0\x0f\0", 6), size / 6),
  };
  for (const std::string& bomb : bombs) {
    const Bytes bytes = pickle(bomb);
    const size_t before = heap_now;
    heap_most = before;
    const auto start = std::chrono::steady_clock::now();
    const auto [status, text] = refusal(bytes);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    INFO(text);
    CHECK((text == "served" || status == Status::kCorrupt));
    CHECK(heap_most - before <= 64 * bytes.size());
    CHECK(took.count() < 20);  // linear: milliseconds; anything worse: hours
  }
  const auto [status, text] = refusal(pickle(std::string(kMaxPickleBytes, 'N')));
  CHECK(status == Status::kUnsupported);
  CHECK(text.find("served: at most 1048576") != std::string::npos);
}

TEST_CASE("a key that is there twice is refused where it is read") {
  PickleWriter p;
  p.raw(kPickleStart).raw("}(").text("a").integer(1).text("b").integer(1).text("a").integer(2).raw("u.");
  const Bytes bytes = bytes_of(p.done());
  const TorchPickle read(bytes, "file");
  CHECK(read.integer(*read.find(read.root(), "b")) == 1);
  CHECK_THROWS_WITH_AS(read.find(read.root(), "a"), "file: a dictionary of data.pkl has the key \"a\" twice", Error);
}
