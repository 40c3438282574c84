"""What is broken, where, and which test has to notice. Each text stands in its file exactly once. A test with a slash in its
name is a program of the repository."""
from typing import NamedTuple


class Mutation(NamedTuple):
    name: str
    test: str
    targets: list
    file: str
    old: str
    new: str


FAULTS, BORDER, PROPERTY, BACKENDS = ["oscar_faults"], ["oscar_border"], ["oscar_property"], ["oscar_backends_test"]

MUTATIONS = [
    Mutation("out of memory has another status", "faults.every_allocation", FAULTS, "src/border/guard.h",
             "return OSCAR_E_NO_MEMORY;", "return OSCAR_E_INTERNAL;"),
    Mutation("feeding takes memory after it has begun", "faults.every_allocation", FAULTS, "src/transform/calibrator.cpp",
             "  moments.add_queries(tokens.first_position, tokens.n, layer.n_q_heads / g.n_kv_heads, layer.rope, tokens.q, scratch);",
             "  MomentScratch more(g.key_dim, g.value_dim);\n"
             "  moments.add_queries(tokens.first_position, tokens.n, layer.n_q_heads / g.n_kv_heads, layer.rope, tokens.q, more);"),
    Mutation("an output keeps what it was", "faults.every_allocation", FAULTS, "src/border/calibrator.cpp",
             "    *calibration_out = nullptr;\n", ""),
    Mutation("a step does not ask whether the pool has room", "faults.full_pool", FAULTS, "src/cache/steps.cpp",
             "if (!pool_.can_allocate(units_))", "if (!pool_.can_allocate(units_) && plan_.collecting)"),
    Mutation("a fork does not ask for its exact rows", "faults.full_pool", FAULTS, "src/cache/sequences.cpp",
             "        ++units_[kind_of(i, UnitKind::kPage)];\n", "        units_[kind_of(i, UnitKind::kPage)] += 0;\n"),
    Mutation("unknown fields of a longer struct are ignored", "border.every_argument", BORDER, "src/border/arguments.cpp",
             "    if (bytes[i] != 0)\n", "    if (bytes[i] == 255)\n"),
    Mutation("a struct may be empty", "border.every_argument", BORDER, "src/border/arguments.cpp",
             "if (given < 8 || given > kMaxStructSize)", "if (given > kMaxStructSize)"),
    Mutation("strides of any length", "border.every_argument", BORDER, "src/border/arguments.cpp",
             "|| span > most)", "|| span == UINT64_MAX)"),
    Mutation("an enum may be one too large", "border.every_argument", BORDER, "src/border/config.cpp",
             "c.writer > OSCAR_WRITER_SHAPED)", "c.writer > OSCAR_WRITER_SHAPED + 1)"),
    Mutation("a NULL is followed", "border.every_argument", BORDER, "src/border/step.cpp",
             '    require(a.entries, "entries");\n', ""),
    Mutation("a reserved field of a layer entry may be anything", "border.every_argument", BORDER, "src/border/config.cpp",
             "  if (layer.reserved != 0)", "  if (layer.reserved == 7)"),
    Mutation("an entry's enum may be one too large", "border.every_argument", BORDER, "src/border/config.cpp",
             "  if (storage > OSCAR_STORAGE_EXACT)", "  if (storage > OSCAR_STORAGE_EXACT + 1)"),
    Mutation("the entries of a calibration may differ in size", "border.every_argument", BORDER, "src/border/calibration.cpp",
             "  check_same_size(bytes, layers->struct_size, alignof(oscar_calibration_layer), name);\n", ""),
    Mutation("a calibration takes memory for any number of heads", "property.refusals", PROPERTY, "src/transform/calibration.cpp",
             "  CalibrationBuilder::check_geometry(layers, Status::kInvalid);  // before", "  // before"),
    Mutation("a cut leaves the rest of its last block", "property.model", PROPERTY, "src/cache/sequences.cpp",
             "    if (!s.blocks.empty() && s.blocks.back().end() > n_tokens)\n", "    if (s.blocks.empty())\n"),
    Mutation("an aborted step keeps its blocks", "property.model", PROPERTY, "src/cache/steps.cpp",
             "  for (Unit unit : step.blocks) pool_.release(unit);\n  for (const StepEntry& e : step.entries) {\n",
             "  for (const StepEntry& e : step.entries) {\n"),
    Mutation("a fork does not count as a holder of its blocks", "property.model", PROPERTY, "src/cache/sequences.cpp",
             "    for (const BlockEntry& b : to.blocks) pool_.share(b.unit);\n", ""),
    Mutation("failures are not made as short as can be", "property.model_shrinks", ["oscar_property", "oscar_planted_fault"],
             "tests/property/shrink.py", "            if size == 1:\n", "            if size < 1000:\n"),
    Mutation("votes of drafts count", "property.drafts", PROPERTY, "src/cache/steps.cpp",
             "const uint64_t settled = e.base > max_rollback ? e.base - max_rollback : 0;", "const uint64_t settled = e.base;"),
    Mutation("bytes in use are too few", "property.memory", PROPERTY, "src/cache/pool.h",
             "bytes += k.in_use * k.unit_bytes;", "bytes += k.in_use * (k.unit_bytes - 1);"),
    Mutation("threads share the error text", "property.threads", PROPERTY, "src/border/library.cpp",
             'thread_local char last_error[512] = "";', 'char last_error[512] = "";'),
    Mutation("results depend on the number of threads", "property.threads", PROPERTY, "src/backend/host_attend.cpp",
             "  work.scale = r.scale;\n", "  work.scale = pool_.n_threads() > 1 ? r.scale * 1.000001f : r.scale;\n"),
    Mutation("a cache starts a thread that nobody asked for", "property.threads", PROPERTY, "src/border/config.cpp",
             "config.n_threads = c.n_threads == 0 ? 1 :", "config.n_threads = c.n_threads == 0 ? 2 :"),
    Mutation("a query is collected at the next position", "property.self_calibration", PROPERTY, "src/cache/freeze.cpp",
             "sequences_[e.slot].number, e.base, e.n_sure()", "sequences_[e.slot].number, e.base + 1, e.n_sure()"),
    Mutation("refined keys have the unit of the others", "backends.differential", BACKENDS, "src/attention/attend_block.h",
             "key * load(tables.key_unit + s)", "key"),
    Mutation("a row's bits depend on the rows beside it", "backends.batch_invariance", BACKENDS, "src/attention/attend_cpu.cpp",
             "const float exact_weight = exact_part / sum,", "const float exact_weight = exact_part / sum * (t.n_rows > 2 ? 1.000001f : 1.0f),"),
    Mutation("a checksum of an imported file is not looked at", "unit.transform_import_damage", ["oscar_unit"],
             "src/transform/torch_zip.cpp", "crc != entry.crc)", "crc == ~entry.crc)"),
    Mutation("a calibration file's checksum is not looked at", "unit.transform_calibration", ["oscar_unit"],
             "src/transform/calibration_file.cpp", "  if (checksum.value() != stored)\n", "  if (checksum.value() == 0)\n"),
    Mutation("a calibration is written otherwise than read", "fuzz.calibration_load", ["oscar_fuzz_calibration_load"],
             "src/transform/calibration_file.cpp", "    ++header.n_heads;\n", "    header.n_heads += 2;\n"),
    Mutation("a truncated sequence is one too long", "fuzz.api_sequence", ["oscar_fuzz_api_sequence"],
             "src/cache/sequences.cpp", "  seq.length = n_tokens;\n", "  seq.length = n_tokens + (n_tokens > 0);\n"),
    Mutation("a symbol is not exported", "abi.symbols", ["oscar"], "src/border/oscar.map", "    oscar_*;", "    oscar_[!m]*;"),
    Mutation("the library prints", "abi.symbols", ["oscar"], "src/border/library.cpp",
             "oscar_abi_version(void) { return", 'oscar_abi_version(void) { std::puts("liboscar"); return'),
    Mutation("a cache is never freed", "abi.loading", ["oscar_loading", "oscar"], "src/border/cache.cpp",
             "{ delete cache; }", "{ (void)cache; }"),
    Mutation("a field of the first header has moved", "abi.first_client", ["oscar_first_client"], "include/oscar/oscar.h",
             "  uint32_t n_layers;\n  uint32_t n_q_heads;          /* query", "  uint32_t n_new;\n  uint32_t n_layers;\n  uint32_t n_q_heads;          /* query"),
    Mutation("a struct has a hole", "c.header_c99", [], "include/oscar/oscar.h",
             "a CUDA graph does the work of the layers, see below; else 0 */\n  uint32_t reserved;\n",
             "a CUDA graph does the work of the layers, see below; else 0 */\n"),
    Mutation("oscar.pc names another library", "install.relocatable", ["oscar", "oscar_static"], "pkgconfig/oscar.pc.in",
             "-loscar", "-loscars"),
    Mutation("libstdc++ is linked as ever", "tests/install/static_libstdcxx.sh", [], "CMakeLists.txt",
             "-static-libstdc++ -static-libgcc", "-static-libgcc"),
    Mutation("a package has the time of its build in it", "packaging/build", [], "cmake/package.cmake",
             "date -u -R -d @${oscar_epoch}", "date -u -R"),
    Mutation("a package has no copyright file", "packaging/build", [], "cmake/package.cmake",
             "${PROJECT_SOURCE_DIR}/packaging/copyright ", ""),
]
