"""Pairs of answers from the tests of Math-Verify and Qwen2.5-Math, with their verdicts, each answer in a box."""

from reason_envs.rewards import grade_math_batch

PAIRS = {  # gold answer: (answers that are right, answers that are wrong)
    "-5": (["-5"], []),
    "7425000": (["7,425,000"], []),
    "1000": (["1 000", "1000.0"], []),
    "1000.0": (["1,000.0"], []),
    "0.4": ([".4"], []),
    "2": (["2"], [r"\frac{1+\sqrt{5}}{2}", "2^{10}.", "AZYUK2A"]),
    "1000.99": (["1,000.99", "$1,000.99", "1,000.99$", "1,000.99€", "1,000.99m²"], []),
    "0.111": (["0.111"], []),
    "10/9": ([r"\frac{10}{9}", r"\frac{1}{2} \cdot \frac{20}{9} = \frac{10}{9}"], []),
    "-10/9": ([r"-\frac{10}{9}"], []),
    "[0,1)": (["[0,1)"], ["(0, 1)"]),
    "[0,9)": ([], ["[0,1)"]),
    "(0,9)": ([], ["[0,9)"]),
    "1": ([r"\frac3{3}"], ["-[0,1)", "1/3."]),
    "9": ([r"\[ 9 \]", "$ 9 $", "$$ 9 $$", r"\( 9 \)", "\n9\n"], []),
    "1/3": (
        [r"\frac13", r"\cfrac{1}{3}", r"\dfrac{1}{3}", r"\tfrac{1}{3}", " 1/3 ", r"\left( \frac{1}{3} \right)",
         r"\boxed{\frac{1}{3}}", r"\frac{1}{3} \text{meters}", r"\frac{1}{3} \textbf{meters}",
         r"k = \frac{1}{3}"],
        [],
    ),
    r"\sqrt{3}": ([r"\sqrt3"], []),
    r"$28\%$": (["28 percent", "28 %", "28 pct", "28 percentage", "28"], []),
    "0.28": ([], ["28"]),
    "28/100": ([], ["28"]),
    "28": ([], ["28/100"]),
    r"\frac{28}{100}": ([], ["28"]),
    "2-2p": (["2-2p"], []),
    r"\begin{pmatrix} 0 & 3 \\ 0 & -1 \end{pmatrix}": (["\n\\begin{pmatrix} 0 & 3 \\\\ 0 & -1 \\end{pmatrix}\n"], []),
    "14{,}916": (["14 {, }916", "14916"], []),
    r"12\text{ and }13": (["12 $ and $13 "], []),
    r"(3, \frac{\pi}{2})": ([r"\left( 3, \frac{\pi}{2} \right)"], []),
    r"\frac{14}{3}": ([r"\frac{14}{3}"], []),
    r"\text{Evelyn}": ([r"\text{Evelyn}"], []),
    r"90^\circ": ([r"90^\circ", "90"], []),
    r"\begin{bmatrix}0 & 0 \\0 & 0\end{bmatrix}": ([r"\begin{pmatrix}0 & 0 \\0 & 0\end{pmatrix}"], []),
    r"\begin{pmatrix}1 & 2 \\3 & 4\end{pmatrix}": (
        [r"\left[\begin{array}{cc}1 & 2 \\3 & 4\end{array}\right]"],
        [r"\begin{pmatrix}1 & 2 \\ 3 & 5\end{pmatrix}"],
    ),
    r"\begin{pmatrix}6 & 8 \\ 10 & 12\end{pmatrix}": (
        [r"\begin{pmatrix}1 & 2 \\ 3 & 4\end{pmatrix} + \begin{pmatrix}5 & 6 \\ 7 & 8\end{pmatrix}"],
        [],
    ),
    r"\begin{pmatrix}1 & 0 \\ 0 & 1\end{pmatrix}": (
        [r"\begin{pmatrix}1 & 0 \\ 0 & 1\end{pmatrix} \begin{pmatrix}1 & 0 \\ 0 & 1\end{pmatrix}"],
        [],
    ),
    r"\frac{1}{12}": (["0.0833333333333333"], []),
    r"(1,\frac{9}{2})": (["(1,4.5)"], []),
    r"\frac{x+2}{7}": ([r"\frac{x}{7}+\frac{2}{7}"], []),
    r"\tan^2(y)+1": ([r"\sec^2(y)"], []),
    r"(\begin{pmatrix}-\frac{7}{4}&-2\\4&\frac{1}{4}\\\end{pmatrix})": (
        [r"\begin{pmatrix}-\frac{7}{4}&-2\\4&\frac{1}{4}\end{pmatrix}"],
        [],
    ),
    r"\begin{pmatrix}\frac{1}{3\sqrt[3]{x}^2}&0&0\\0&1&0\\-\sin(x)&0&0\\\end{pmatrix}": (
        [r"\begin{pmatrix}\frac{1}{3x^{2/3}}&0&0\\0&1&0\\-\sin(x)&0&0\end{pmatrix}"],
        [],
    ),
    "34x+45y-20z+100=0": (["-34x-45y+20z-100=0"], []),
    r"\frac{\sqrt{\sqrt{11}+\sqrt{194}}}{15+2\sqrt{33}}": (
        [r"\frac{\sqrt{\sqrt{11}+\sqrt{194}}}{2\sqrt{33}+15}"],
        [],
    ),
    "(a+5)(b+2)": ([], ["(+5)(b+2)"]),
    "4": ([], [r"\frac{34}{16}+\frac{\sqrt{1358}}{16}", r"4\sqrt{2}"]),
    r"1\sqrt{19}": ([], ["1"]),
    "x+2n+1": ([], ["x+1"]),
    "2/3": (["2/3", "P(A) = 2/3"], []),
    "12": (["12"], []),
    "(7,6)": (["(7, 6)"], []),
    "[-3,2]": (["[-3, 2]"], [r"(-\infty, -3] \cup [2, \infty)"]),
    "16386.20": ([r"\$16,\!386.20"], []),
    "16386.17": ([r"\$16386.17"], []),
    "12000023": ([r"12,\!000,\!023"], []),
    r"\left(\frac{1}{5},\frac{1}{6}\right)": ([r"\left( \frac{1}{5}, \frac{1}{6} \right)"], []),
    r"\frac{5\sqrt{42}}{27}": ([r"\frac{10\sqrt{10.5}}{27}"], []),
    "20": ([r"20 \%"], []),
    r"x \in [-2,7]": (["[-2, 7]"], []),
    r"-2 \le x \le 7": ([r"x \in [-2,7]"], []),
    r"(\tfrac{27}{8},\tfrac{15}{8})": ([], ["(0, 0)"]),
    r"\left( \frac{4}{3}, -\frac{1}{3} \right)": ([r"\left( \frac{4}{3}, -\frac{1}{3} \right)"], []),
    "(3,1)": ([], [r"\{1,3\}"]),
    "100%": ([r"100\%"], []),
    "x-2y+z-1=0": (["x-2y+z-1=0"], []),
    "[-4,0]": (["[-4, 0]"], []),
    "(-6, 10)": ([r"x \in (-6, 10)"], []),
    "1112112_3": ([], ["1112122_3"]),
    r"\text{C}": ([r"\text{(C)}"], []),
    "11111111100": ([r"11,\! 111,\! 111,\! 100"], []),
    "100, 200": (["200, 100", "100,200"], ["100200"]),
    "32349": ([r"32,\! 349"], ["32, 349"]),
    r"(2, 12) \cup (12, 102)": ([r"x \in (2,12) \cup (12,102)"], []),
    r"\text{E}": (["E"], []),
    "1,-2": (["-2, 1"], []),
    "4.123105625617661": ([r"\sqrt{17}"], []),
    r"\frac{1}{3}": ([r"\frac{1}{3}.", r"\frac{1}{3},", r"\frac{1}{3} ."], []),
    r"\sqrt{2}": ([r"\sqrt{2}."], []),
    "(1,2)": (["(1,2)."], []),
    "5": ([r"5 \text{ cm}."], []),
    "42": (["42."], []),
    "1, 2, 3": ([], ["1, 2, 3, ..."]),
    "10": (["10", "x = 10"], ["20"]),
    "10%": (["0.1"], ["0.2"]),
    "[1, 2, 3]": (["[1, 2, 3]"], ["[1, 2, 4]"]),
    "x = y": (["x = y"], ["x = z"]),
    "x = 10": (["10"], []),
    r"\begin{pmatrix}1&2\\3&4\end{pmatrix}": (
        [r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"],
        [r"\begin{pmatrix}1&2\\3&5\end{pmatrix}"],
    ),
}  # fmt: skip


def cases():
    for gold, (right, wrong) in PAIRS.items():
        yield from ((gold, answer, True) for answer in right)
        yield from ((gold, answer, False) for answer in wrong)


def test_grade_agrees_with_the_pairs_of_other_graders():
    pairs = list(cases())
    assert len(pairs) > 120
    grades = grade_math_batch((rf"Thus it is $\boxed{{{answer}}}$.", gold) for gold, answer, _ in pairs)
    found = {
        (gold, answer): grade.reason
        for (gold, answer, expected), grade in zip(pairs, grades, strict=True)
        if grade.correct != expected
    }
    assert found == {}
