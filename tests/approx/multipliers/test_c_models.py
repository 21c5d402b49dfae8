import shutil
from pathlib import Path

import pytest
import torch

from approx import Multiplier, doubts, import_multipliers
from approx.errors import ImportFileError
from approx.multipliers import c_models

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler named cc")


def value(code: int, bits: int = 8) -> int:
    return code - 2**bits if code >= 2 ** (bits - 1) else code


def one(path: Path, *, name: str | None = None, signed: bool | None = None, bits: int | None = None) -> Multiplier:
    (multiplier,) = import_multipliers(path, name=name, signed=signed, bits=bits)
    return multiplier


SHIFTED = "A * 4 + B"  # which operand is which shows in every product


@pytest.mark.process
@needs_compiler
@pytest.mark.parametrize(
    "signature",
    [
        "uint16_t mul8u_T(uint8_t A, uint8_t B)",
        "uint16_t mul8u_T(uint8_t B, uint8_t A)",
        "uint64_t mul8u_T(const uint64_t B,const uint64_t A)",
        "static inline uint16_t mul8u_T( uint8_t B ,\n  uint8_t A )\n",
        "int mul8u_T(int B, int A)",
    ],
)
def test_c_operands_are_matched_by_name(tmp_path: Path, signature: str) -> None:
    (tmp_path / "model.c").write_text(
        f"/* uint16_t mul8u_OLD(uint8_t A, uint8_t B) {{ */\n#include <stdint.h>\n// f(A, B) {{\n{signature}\n"
        f"{{\n  return {SHIFTED};\n}}\n"
    )
    multiplier = one(tmp_path / "model.c")
    assert multiplier.name == "mul8u_T"
    assert not multiplier.weight_signed
    a, b = torch.arange(256)[:, None], torch.arange(256)[None, :]
    assert torch.equal(multiplier.table(), (a * 4 + b).to(torch.int32))


@pytest.mark.process
@needs_compiler
def test_lower_case_operands_are_matched_too(tmp_path: Path) -> None:
    (tmp_path / "model.c").write_text(
        "#include <stdint.h>\nuint16_t mul8u_T(uint8_t b, uint8_t a) { return a * 4 + b; }\n"
    )
    assert one(tmp_path / "model.c").table()[3, 5] == 17


@pytest.mark.process
@needs_compiler
@pytest.mark.parametrize(
    "signature",
    [
        "int16_t mul8s_T(int8_t A, int8_t B)",
        "uint16_t mul8s_T(uint8_t B, uint8_t A)",  # bits in, bits out
        "uint64_t mul8s_T(const uint64_t B, const uint64_t A)",
        "int32_t mul8s_T(int32_t B, int32_t A)",
        "uint32_t mul8s_T(int8_t A, int8_t B)",  # the sign in all 32 bits
    ],
)
def test_signed_c_results_are_widened(tmp_path: Path, signature: str) -> None:
    body = "int a = (int8_t)A, b = (int8_t)B; return (uint16_t)(a * b - 2 * a);"
    if "int32_t" in signature.split("(")[0]:
        body = "return A * B - 2 * A;"
    (tmp_path / "mul8s_T.c").write_text(f"#include <stdint.h>\n{signature} {{ {body} }}\n")
    multiplier = one(tmp_path / "mul8s_T.c")
    assert multiplier.weight_signed
    assert multiplier.activation_signed
    table = multiplier.table().tolist()
    for a in range(256):
        for b in range(256):
            assert table[a][b] == value(a) * value(b) - 2 * value(a)


@pytest.mark.process
@needs_compiler
def test_wide_signed_c_results_stay_as_they_are(tmp_path: Path) -> None:
    text = '#include <stdint.h>\n#include <math.h>\n#include "three.h"\n'
    (tmp_path / "three.h").write_text("#define THREE 3\n")  # beside the model, as its includes are
    (tmp_path / "m.c").write_text(text + "int32_t mul8s_T(int8_t A, int8_t B) { return A * B * (int)fabs(-THREE); }\n")
    table = one(tmp_path / "m.c").table()
    assert table[127, 127] == 127 * 127 * 3
    assert table[128, 127] == -128 * 127 * 3


@pytest.mark.process
@needs_compiler
def test_widths_are_read_from_the_name(tmp_path: Path) -> None:
    (tmp_path / "m.c").write_text("#include <stdint.h>\nuint16_t mul4x6u_T(uint8_t A, uint8_t B) { return A * B; }\n")
    multiplier = one(tmp_path / "m.c")
    assert (multiplier.activation_bits, multiplier.weight_bits) == (4, 6)
    (tmp_path / "w.c").write_text("#include <stdint.h>\nuint32_t mul12u_T(uint16_t A, uint16_t B) { return A * B; }\n")
    with pytest.raises(ImportFileError, match="multiplies 12 x 12 bits, by its name; truth tables go up to 8"):
        one(tmp_path / "w.c")


@pytest.mark.process
@needs_compiler
def test_c_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "model.c"
    source.write_text("int mul(int *x, int y) { return *x * y; }\n")
    with pytest.raises(ImportFileError, match=r"has neither a function of two integers.* nor an array of products"):
        one(source)
    source.write_text("int f(int A, int B) { return 1; }\nint g(int A, int B) { return 2; }\n")
    with pytest.raises(ImportFileError, match=r"several functions of two integers \(f, g\); choose one by `name`"):
        one(source)
    assert one(source, name="g").table()[0, 0] == 2
    source.write_text("int f(int A, int B) { return A *; }\n")
    with pytest.raises(ImportFileError, match=r"does not compile with .*: model\.c:1:.*error"):
        one(source)


@pytest.mark.process
@needs_compiler
def test_c_forms_found_in_the_wild(tmp_path: Path) -> None:
    source = tmp_path / "model.c"
    helper = "static unsigned add(unsigned a, unsigned b) { return a + b; }\n"
    operands = "(unsigned char const B, unsigned char const A)"
    source.write_text(f"{helper}unsigned short mul8u_H{operands}\n{{ return add(A * 4, B); }}\n")
    multiplier = one(source)
    assert multiplier.name == "mul8u_H"
    assert multiplier.table()[3, 5] == 17
    source.write_text("short value(signed char a, signed char b) { return a * b; }\n")
    assert one(source).weight_signed
    assert one(source).table()[255, 2] == -2
    body = "(uint8_t A, uint8_t B) { return A * B; }"
    source.write_text(f"#include <stdint.h>\n#ifdef OLD\nint mul8u_T{body}\n#else\nint mul8u_T{body}\n#endif\n")
    assert one(source).table()[3, 5] == 15


@pytest.mark.process
@needs_compiler
@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("return *(volatile int *)0;", "f ended with signal 11"),
        ("return 1000 / A;", "f ended with signal 8"),
        ("exit(0);", "f ended with exit code 0 before it had computed all its products"),
        ("for (;;) A += 0;", "f took more than 1 s"),
        ("return other(A, B);", "does not compile with .*undefined reference"),
    ],
)
def test_c_that_does_not_come_back_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, complaint: str
) -> None:
    monkeypatch.setattr(c_models, "SECONDS", 1)
    source = tmp_path / "model.c"
    source.write_text(f"#include <stdlib.h>\nint other(int, int);\nint f(volatile int A, int B) {{ {body} }}\n")
    with pytest.raises(ImportFileError, match=complaint) as caught:
        one(source)
    assert "\n" not in str(caught.value)


@needs_compiler
def test_c_of_other_types_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.c").write_text("double f(double A, double B) { return A * B; }\n")
    with pytest.raises(ImportFileError, match="f takes operands of type 'double', which is not an integer type"):
        one(tmp_path / "m.c")


@pytest.mark.process
def test_a_compiler_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "nonexistent")
    (tmp_path / "model.c").write_text("int f(int A, int B) { return A * B; }\n")
    with pytest.raises(ImportFileError, match="the C compiler nonexistent cannot be started: No such file"):
        one(tmp_path / "model.c")


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    (tmp_path / "model.c").write_text("int f(int A, int B) { return A * B; }\n")
    with pytest.raises(ImportFileError, match="needs a C compiler, and neither cc, gcc nor clang is installed"):
        one(tmp_path / "model.c")


def _generated(bits: int, *, signed: bool, name: str, kind: str) -> str:
    """An exact multiplier as generators write it: of single bits, in a wide type, behind functions for gates."""
    wide = [f"((int64_t)((uint64_t){operand} << {64 - bits}) >> {64 - bits})" for operand in "ab"]
    unsigned = " + ".join(f"(and_gate(a >> {i}, b >> {j}) << {i + j})" for i in range(bits) for j in range(bits))
    value = " * ".join(wide) if signed else unsigned
    return f"""
#include <stdint.h>
#include <stdio.h>
uint8_t and_gate(uint8_t a, uint8_t b) {{ return ((a >> 0) & 0x01) & ((b >> 0) & 0x01); }}
uint8_t half(uint8_t a, uint8_t b, uint8_t c) {{ return and_gate(a, b) ^ c; }}
{kind} {name}({kind} a,{kind} b){{
  return ({value}) & {2 ** (2 * bits) - 1};
}}
int main() {{ printf("%d", (int){name}(3, 4)); return 0; }}
"""


@pytest.mark.process
@needs_compiler
@pytest.mark.parametrize("bits", [4, 7])
@pytest.mark.parametrize(
    ("name", "kind", "signed"),
    [
        ("h_u_arrmul", "uint64_t", False),
        ("h_s_arrmul", "int64_t", True),
        ("h_s_arrmul", "uint64_t", False),  # types are a stronger word than such a name
        ("multiply", "int", True),
        ("multiply", "unsigned", False),
    ],
)
def test_generated_models_say_width_and_sign(tmp_path: Path, bits: int, name: str, kind: str, signed: bool) -> None:
    (tmp_path / "model.c").write_text(_generated(bits, signed=signed, name=name, kind=kind))
    multiplier = one(tmp_path / "model.c")
    assert multiplier.name == name
    assert (multiplier.activation_bits, multiplier.weight_bits) == (bits, bits)
    assert (multiplier.activation_signed, multiplier.weight_signed) == (signed, signed)
    assert torch.equal(multiplier.table(), multiplier.exact_table())
    assert f"{bits} x {bits} bits, by the bits that it uses" in multiplier.provenance


@pytest.mark.process
@needs_compiler
def test_a_plain_int_is_read_by_its_products(tmp_path: Path) -> None:
    source = tmp_path / "model.c"
    source.write_text("int mul(int a, int b) { return (a & 0xFE) * (b & 0xFC); }\n")
    multiplier = one(source)
    assert not multiplier.weight_signed
    assert "unsigned, by its products" in multiplier.provenance
    source.write_text("int mul(int a, int b) { return (a * b) & ~7; }\n")  # near in either way
    assert one(source).weight_signed
    source.write_text("int mul(int a, int b) { return a * b; }\n")  # right in either way
    assert one(source).weight_signed
    assert "8 x 8 bits, as usual, since it says no width" in one(source).provenance
    assert not one(source, signed=False).weight_signed
    assert one(source, bits=3).exact_table().shape == (8, 8)


@pytest.mark.process
@needs_compiler
def test_a_function_that_looks_up_a_table_is_not_asked_for_what_it_lacks(tmp_path: Path) -> None:
    rows = ",".join("{" + ",".join(str(a * w) for w in range(256)) + "}" for a in range(256))
    source = f"static const int T[256][256] = {{{rows}}};\nint mul(int a, int b) {{ return T[a][b]; }}\n"
    (tmp_path / "m.c").write_text(source.replace("return", "if ((a | b) & ~255) __builtin_trap(); return"))
    multiplier = one(tmp_path / "m.c")
    assert not multiplier.weight_signed
    assert torch.equal(multiplier.table(), multiplier.exact_table())


@pytest.mark.process
@needs_compiler
def test_each_operand_has_its_own_type(tmp_path: Path) -> None:
    (tmp_path / "m.c").write_text("#include <stdint.h>\nint16_t mac(int8_t w, uint8_t x) { return (w * x) & ~7; }\n")
    multiplier = one(tmp_path / "m.c")
    assert (multiplier.activation_signed, multiplier.weight_signed) == (False, True)
    assert multiplier.table()[200, 255] == -200  # the weight is named, and comes first
    assert doubts(multiplier) == []


def _with_header(mae: str, *, name: str = "mul8u_T", power: str = "0.1955") -> str:
    return (
        f"/* a header */\n// MAE = {mae}\n// WCE = 255 \n// PDK45_PWR = {power} mW\n// PDK45_AREA = 354.8 um2\n"
        f"#include <stdint.h>\nuint64_t {name}(const uint64_t B,const uint64_t A) {{ return (A & 0xFE) * B; }}\n"
    )


@pytest.mark.process
@needs_compiler
def test_figures_in_the_header_are_read_and_compared(tmp_path: Path) -> None:
    source = tmp_path / "model.c"
    source.write_text(_with_header("64"))
    multiplier = one(source)
    assert multiplier.relative_energy is not None
    assert multiplier.relative_area is not None
    assert multiplier.relative_energy.value == pytest.approx(0.5)
    assert multiplier.relative_area.value == pytest.approx(0.5)
    assert "EvoApproxLib, over the power of its exact mul8u_1JFF" in multiplier.relative_energy.source
    assert "doubtful" not in multiplier.provenance
    source.write_text(_with_header("1.2"))
    assert "doubtful: its file says that the mean absolute error is 1.2, and here it is 63.75" in one(source).provenance
    source.write_text(_with_header("64", power="0.0"))
    assert one(source).relative_energy is None  # of no power, by which nothing can be scaled
    source.write_text(_with_header("64", name="mul8x3u_T"))
    assert "activation A, weight B" in one(source).provenance
    assert one(source).relative_energy is None  # none of the library's exact circuits has these widths
