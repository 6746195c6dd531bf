"""Records what Hugging Face transformers makes of the chat templates in templates/, and of the snippets below.

python record.py   (needs transformers and jinja2) writes conversations.json and snippets.json beside itself.

The templates are the published ones; FAMILIES says where each was read. "-first" marks a family's earlier publication,
"-default" what transformers took for a Llama tokenizer without a template of its own. strftime_now is replaced by one
that writes its argument in angle brackets.
"""
import json
import pathlib

import jinja2
from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

HERE = pathlib.Path(__file__).parent

LLAMA_CPP = "ggml-org/llama.cpp: models/templates/"
LLAMA_CPP_TEST = "ggml-org/llama.cpp: tests/test-chat-template.cpp, "
HF_JS = "huggingface/huggingface.js: packages/jinja/test/e2e.test.js, "
LMFLOW = "OptimalScale/LMFlow: docs/source/examples/supported_conversation_template.md, "
JINJA_CPP = "wangzhaode/jinja.cpp: tests/test_chat_template.json, "

# Each with its begin and end token, and the source of its template.
FAMILIES = {
    "llama-2-chat": ("<s>", "</s>", LMFLOW + "Llama-2"),
    "llama-2-chat-default": ("<s>", "</s>", HF_JS + "llama"),
    "llama-3-instruct": ("<|begin_of_text|>", "<|eot_id|>", JINJA_CPP + "LLM-Research/Meta-Llama-3-8B-Instruct"),
    # That of Llama 3.3 is the same.
    "llama-3.1-instruct": ("<|begin_of_text|>", "<|eot_id|>", LLAMA_CPP + "meta-llama-Llama-3.1-8B-Instruct.jinja"),
    "llama-3.2-instruct": ("<|begin_of_text|>", "<|eot_id|>", LLAMA_CPP + "meta-llama-Llama-3.2-3B-Instruct.jinja"),
    "mistral-7b-instruct-v0.1": ("<s>", "</s>", HF_JS + "TheBloke/Mistral-7B-Instruct-v0.1-GPTQ"),
    "mistral-7b-instruct-v0.2-first": ("<s>", "</s>", LLAMA_CPP_TEST + "mistralai/Mistral-7B-Instruct-v0.2, pre-v1"),
    # The source has the other quotation marks.
    "mistral-7b-instruct-v0.2": ("<s>", "</s>", LLAMA_CPP_TEST + "mistralai/Mistral-7B-Instruct-v0.2, v1"),
    "mistral-7b-instruct-v0.3-first": ("<s>", "</s>", HF_JS + "mistralai/Mistral-7B-Instruct-v0.3"),
    "mistral-7b-instruct-v0.3": ("<s>", "</s>", LLAMA_CPP_TEST + "Mistral-Large-Instruct-2407, v3"),
    "mistral-nemo-instruct-2407-first": ("<s>", "</s>", HF_JS + "mistralai/Mistral-Nemo-Instruct-2407"),
    "mistral-nemo-instruct-2407": ("<s>", "</s>", LLAMA_CPP + "mistralai-Mistral-Nemo-Instruct-2407.jinja"),
    "qwen2-instruct": ("", "<|im_end|>", "sgl-project/sglang: python/sglang/lang/chat_template.py, Qwen2-72B-Instruct"),
    "qwen2.5-instruct": ("", "<|im_end|>", LLAMA_CPP + "Qwen-Qwen2.5-7B-Instruct.jinja"),
    "qwen3-first": ("", "<|im_end|>", LLAMA_CPP + "Qwen-Qwen3-0.6B.jinja"),
    "qwen3": ("", "<|im_end|>", JINJA_CPP + "Qwen/Qwen3-4B"),
    "qwen3-instruct-2507": ("", "<|im_end|>", JINJA_CPP + "Qwen/Qwen3-4B-Instruct-2507"),
    "qwen3-thinking-2507": ("", "<|im_end|>", JINJA_CPP + "Qwen/Qwen3-4B-Thinking-2507"),
    "smollm2-instruct": ("<|im_start|>", "<|im_end|>", "tokenizer.chat_template of SmolLM2-135M-Instruct's GGUF file"),
}


def talk(*turns):
    return [{"role": role, "content": content} for role, content in turns]


CONVERSATIONS = {
    "one question": talk(("user", "What is the capital of Japan?")),
    "with a system message": talk(("system", "You answer in verse."), ("user", "Who wrote Ivanhoe?")),
    "several turns": talk(("system", " Be brief.\n"), ("user", "Hi"), ("assistant", "Hello!"), ("user", "Tell me more."),
                          ("assistant", "  Of what?\n\n"), ("user", "\n of ships \t")),
    "ends with an answer": talk(("user", "1 + 1?"), ("assistant", "2")),
    "not alternating": talk(("user", "a"), ("user", "b")),
    "begins with an answer": talk(("assistant", "Hello!"), ("user", "Hi")),
    "a late system message": talk(("user", "a"), ("assistant", "b"), ("system", "c"), ("user", "d")),
    "a tool's answer": talk(("user", "Weather?"), ("tool", "sunny, 21 \u00b0C"), ("tool", "dry"), ("assistant", "Fine.")),
    "an unknown role": talk(("user", "a"), ("narrator", "b")),
    "reasoning": talk(("user", "2 + 2?"), ("assistant", "<think>\nAdd.\n</think>\n\n4"), ("user", "3 + 3?"),
                      ("assistant", "<think>\n\nAdd again.\n</think>\n\n6")),
    "a tool response as user": talk(("user", "Look it up."), ("assistant", "<think>Hm.</think>ok"),
                                    ("user", "<tool_response>x</tool_response>"), ("assistant", "It is x.")),
    "odd characters": talk(("user", "\u3000 na\u00efve \u65e5\u672c\u8a9e \U0001f600 \"q\" 'r' {{ x }} {% y %} <|im_end|>\r\n\x85"),
                           ("assistant", "\ufeff\u00a0\x1c")),
    "empty texts": talk(("system", ""), ("user", ""), ("assistant", "")),
    "a system message alone": talk(("system", "\n  s \t")),
    "two system messages": talk(("system", "a"), ("system", "b"), ("user", "c")),
    "a system message second": talk(("user", "a"), ("system", "b"), ("user", "c")),
    "white space": talk(("system", " "), ("user", "\n"), ("assistant", " \t"), ("user", "\r\n")),
    "nothing": [],
}

# Each renders with the messages of "several turns".
SNIPPETS = [
    # white space
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n",
    "a\n  {%+ if true +%}\n  b\n  {%+ endif +%}\nc\n\n",
    "a  \n {%- if true -%} \n b {%- endif %} \n c",
    "  {# note #}\n x {#- note -#}  y {#+ z +#}\n w",
    "  {{ 1 }}\n  {{- 2 -}}  \n 3\r\n4\r5\n",
    "{% if true %}\n{% if true %}\n  {% if true %}x{% endif %}\n{% endif %}\n{% endif %}\n",
    "x {% if true %}\n\n y{% endif %}  {% if true %}z{% endif %}\n",
    "{% set a = 1 -%}\n\n {%- set b = 2 %} \n{{ a }}{{ b }}",
    "\u00a0{% if true %}a{% endif %}\u3000{%- if true %}b{% endif %}\x1c{{- 'c' }}",
    "{ {} }} %} #} {{ '}}' }} {{ {'a': {'b': 1}}.a.b }} {{ '%}' }}{% if '%}' %}y{% endif %}",
    # literals
    "{{ 'a\\tb\\n\\\\c\\'d\\x41\\u00e9\\q' }}{{ \"it's\" 'joined' }}{{ 'a\nb' }}",
    "{{ 7 }} {{ 1.50 }} {{ 2.0 }} {{ true }} {{ False }} {{ none }} {{ None }} {{ undefined_name }} {{ -3 }} {{ +3 }}",
    # operators and precedence
    "{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 2 * 3 + 4 }} {{ 2 + 3 * 4 }} {{ 4 / 2 }}",
    "{{ '1' + 2 ~ 3 }} {{ 'a' ~ none ~ 1.5 ~ true }} {{ 'a' + 'b' ~ 'c' }} {{ 2 * 3 ~ 4 }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 3 > 2 == true }} {{ not 1 == 2 }} {{ not not 1 }} {{ 1 == 1.0 }} {{ true == 1 }}",
    "{{ 1 and 2 }} {{ 0 or 'x' }} {{ '' and 1 }}| {{ 0 or '' or none }} {{ 1 if '' else 2 }} {{ 'y' if [0] }}{{ 'n' if [] }}",
    "{{ 'a' in 'cat' }} {{ 'a' not in ['b'] }} {{ 'role' in messages[0] }} {{ 3 in (1, 2, 3) }} {{ 'x' in undefined_name }}",
    "{{ 'b' if 1 > 2 else 'c' if 2 > 3 else 'd' }} {{ 'abc' < 'abd' }} {{ 'Z' < 'a' }} {{ 2 >= 2.0 }} {{ [1, 2] == [1, 2] }}",
    "{{ -1 | string ~ 'x' }} {{ 'a' ~ ' b '|trim ~ 'c' }} {{ (1 + 2) * 3 }} {{ {'a': 1} == {'a': 1.0} }} {{ 10 - 2 - 3 }}",
    # subscripts and slices
    "{{ messages[-1].content|trim }} {{ messages[99] is defined }} {{ messages[0]['nothing'] is defined }} {{ 'h\u00e9llo'[1] }}",
    "{{ 'h\u00e9llo'[1:3] }} {{ 'hello'[::-1] }} {{ 'hello'[-3:] }} {{ 'hello'[:-1] }} {{ 'hello'[::2] }} {{ 'hello'[4:1:-1] }}",
    "{{ messages[1:3]|length }} {{ messages[5:2]|length }} {{ messages[::-1][0].content|trim }} {{ 'abc'[10:] }}|{{ 'abc'[-10:2] }}",
    "{{ {'a': 1, 'b': [1, {'c': 2}]}['b'][1].c }} {{ ('x', 'y')[1] }} {{ ().missing is defined }} {{ messages[0].content.nope is defined }}",
    # loops and scopes
    "{% for m in messages %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.length }}"
    "{{ ' first' if loop.first }}{{ ' last' if loop.last }} {{ loop.previtem.role if loop.previtem is defined else '-' }} "
    "{{ loop.nextitem.role if loop.nextitem is defined else '-' }};{% endfor %}",
    "{% set x = 1 %}{% for m in messages %}{% if loop.first %}{% set x = 2 %}{% endif %}{{ x }}{% endfor %}{{ x }}{% if 1 %}{% set x = 3 %}{% endif %}{{ x }}",
    "{% set ns = namespace(n=0, s='') %}{% for m in messages if m.role == 'user' %}{% set ns.n = ns.n + loop.index %}"
    "{% set ns.s = ns.s ~ m.content|trim ~ loop.length %}{% endfor %}{{ ns.n }} {{ ns.s }} {{ ns.missing is defined }}",
    "{% for m in [] %}x{% else %}none{% endfor %}{% for m in undefined_name %}x{% else %}none{% endfor %}{% for c in 'h\u00e9' %}{{ c }}.{% endfor %}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }}{{ ',' if not loop.last }}{% endfor %}{% for k in {'x': 1} %}{{ k }}{% endfor %}",
    "{% for (a, b) in [(1, 2), [3, 4]] %}{{ a + b }} {% endfor %}{% for a in [1, 2] %}{% for b in [3, 4] %}{{ a * b }}{{ loop.index }} {% endfor %}{{ loop.index }};{% endfor %}",
    "{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}{{ range(0)|list|length }}",
    "{% set m = 'outer' %}{% for m in messages %}{% endfor %}{{ m }}{% for i in [1] %}{% set inner = 5 %}{% endfor %}{{ inner is defined }}",
    "{% if 0 %}a{% elif '' %}b{% elif 1 %}c{% else %}d{% endif %}{% if none %}{% else %}e{% endif %}",
    # filters
    "[{{ '  a b \\n'|trim }}] [{{ 'xxaxx'|trim('x') }}] {{ 'AbC\u00c9'|lower }} {{ 'AbC\u00e9'|upper }} {{ 'hELLO w\u00d6RLD'|capitalize }}",
    "{{ missing|default('d') }} {{ ''|default('d') }}| {{ ''|default('d', true) }} {{ 0|d(5, boolean=true) }} {{ none|default('n') }}",
    "{{ ['a', 1, none]|join(', ') }} {{ 'abc'|join('-') }} {{ [1, 2]|join }} {{ []|join('x') }}|{{ ['b']|join(d='y') }}",
    "{{ [1, 2, 3]|first }} {{ [1, 2, 3]|last }} {{ 'xyz'|first }} {{ 'xyz'|last }} {{ []|first is defined }} {{ '\u65e5\u672c'|length }} {{ {'a': 1}|length }} {{ missing|length }}",
    "{{ messages|selectattr('role', 'equalto', 'user')|list|length }} {{ messages|rejectattr('role', 'in', ['user', 'system'])|map(attribute='content')|join('/') }}",
    "{{ [1, 0, 2, '']|select|list|length }} {{ [1, 2, 3, 4]|reject('odd')|join }} {{ [1, 2, 3]|select('gt', 1)|join }} {{ messages|selectattr('tool_calls')|list|length }}",
    "{{ 'a-b-c'|replace('-', '+') }} {{ 5|string + 'x' }} {{ 'abc'|list|join(' ') }} {% for k, v in {'k': 'v'}|items %}{{ k ~ v }}{% endfor %} {{ [3]|count }}",
    # JSON
    "{{ {'a': [1, 2.5, true, none, 'x\\n\"\\\\/\u00e9\\u0001\\x7f'], 'b': {}, 'c': []}|tojson }}",
    "{{ {'a': [1, {'b': 'c'}], 'd': {}, 'e': []}|tojson(indent=2) }} {{ 'x'|tojson }} {{ 3|tojson }}",
    "{{ '\u00e9\U0001f600'|tojson(ensure_ascii=true) }} {{ messages[0]|tojson }} {{ [1, 2]|tojson(indent=4) }} {{ [1]|tojson(indent=-2) }}",
    # tests
    "{{ messages is defined }} {{ x is defined }} {{ x is undefined }} {{ none is none }} {{ 1 is not none }} {{ x is none }}",
    "{{ 'a' is string }} {{ 1 is string }} {{ {} is mapping }} {{ [] is mapping }} {{ [] is iterable }} {{ 'a' is iterable }} {{ 1 is iterable }} {{ x is iterable }}",
    "{{ [] is sequence }} {{ {} is sequence }} {{ 1 is number }} {{ 1.5 is number }} {{ true is number }} {{ true is integer }} {{ 1 is integer }} {{ 1.0 is float }} {{ true is boolean }}",
    "{{ true is true }} {{ 1 is true }} {{ false is false }} {{ 3 is odd }} {{ 3 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(2) }} {{ 'a' is in ['a'] }} {{ 1 is eq 1 }} {{ 1 is not equalto(2) }}",
    "{{ messages|rejectattr('role', 'equalto', 'tool')|selectattr('tool_calls', 'undefined')|list|length }} {{ 00 }} {{ 02.50 }} {{ x == true and not 'a' in 'b' }}",
    "{{ not x is defined and 1 is defined }} {{ strftime_now is defined }} {{ raise_exception is callable }} {{ tools is none }} {{ 2 is gt 1 }} {{ 2 is le 1 }}",
    # methods
    "[{{ '  a '.strip() }}] [{{ '  a '.lstrip() }}] [{{ '  a '.rstrip() }}] {{ 'xyaxy'.strip('xy') }} {{ '\\n\\na'.lstrip('\\n') }}",
    "{{ 'a,b,,c'.split(',')|join('|') }} {{ ' a  b '.split()|join('|') }} {{ 'a b c'.split(' ', 1)|join('|') }} {{ ''.split(',')|length }} {{ ''.split()|length }} {{ ' a b c '.split(none, 1)|join('|') }}",
    "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'ABC'.lower() }} {{ 'abc'.upper() }} {{ 'a.b'.replace('.', '') }} {{ ', '.join(['a', 'b']) }} {{ '\u00e9a'.find('a') }}",
    "{{ {'a': 1}.get('a') }} {{ {'a': 1}.get('b') }} {{ {'a': 1}.get('b', 2) }} {{ {'a': 1}.keys()|list|join }} {{ {'a': 1}.values()|list|join }}",
    "{{ '</think>'.join(['x', 'y']).split('</think>')[-1] }} {{ strftime_now('%d %b %Y') }}",
    # what training templates are made of
    "{% for m in messages %}{% generation %}{{ m.role }};{% endgeneration %}\n{% endfor %}{% set x = 1 %}{%- generation -%} {% set x = 2 %}{{ x }} {%- endgeneration -%} {{ x }}",
    "{% for m in messages %}{% if m.role == 'assistant' %}{% break %}{% endif %}{{ m.role }};{% endfor %}|{% for i in range(5) %}{% if i % 2 %}{% continue %}{% endif %}{{ i }}{{ loop.last }}{% endfor %}",
    "{% for i in [1, 2] %}{% break %}{% else %}e{% endfor %}|{% for i in [1, 2] %}{% continue %}{% else %}e{% endfor %}|{% for i in [1, 2] %}{{ i }}{% if i == 2 %}{% break %}{% endif %}{% else %}e{% endfor %}",
    "{% for i in [1, 2, 3] %}{% set x %}a{% if i == 2 %}{% break %}{% endif %}b{% endset %}{{ x }}{% endfor %}|{% for i in [1, 2] %}{% with j = i %}{% if j == 1 %}{% continue %}{% endif %}{{ j }}{% endwith %}{% endfor %}",
    "{% for a in [1, 2] %}{% for b in [1, 2] %}{% if b == 2 %}{% break %}{% endif %}{{ a }}{{ b }} {% endfor %}{% endfor %}",
    "{% break %}", "{% for i in [1] %}{% generation %}{% break %}{% endgeneration %}{% endfor %}", "{% for i in [1] %}{% macro f() %}{% continue %}{% endmacro %}{% endfor %}",
    # macros
    "{% macro f(x, y='b', z=x) %}<{{ x }}{{ y }}{{ z }}>{% endmacro %}{{ f('a') }}{{ f('a', 'c') }}{{ f(y=1, x=2) }}{{ f(1, 2, 3) }}{{ f() }}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{{ varargs|length }}{% endmacro %}{{ f(1, 'a', b=2) }}{{ f() }}",
    "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(1, 2) }}", "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(y=2) }}", "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(1, x=2) }}",
    "{% set a = 1 %}{% macro f() %}{{ a }}{{ b }}{% set a = 5 %}{{ a }}{% endmacro %}{% set a = 2 %}{{ f() }}{{ a }}{% for b in [7] %}{{ f() }}{% endfor %}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}{{ f(3)|length }}{{ f(2) ~ '!' }}{{ f(1) is string }}{{ f is callable }}",
    "{%- macro f(m) -%}\n  [{{ m.role }}]\n{%- endmacro -%}\n{% for m in messages %}\n  {{ f(m) }}\n{% endfor %}\n",
    "{% macro list(t) %}<{{ caller() }}|{{ caller() }}>{{ t }}{% endmacro %}{% call list('x') %}a{{ 1 }}{% endcall %}{% macro each(l) %}{% for i in l %}{{ caller(i, loop.index) }}{% endfor %}{% endmacro %}{% call(a, b) each(['p', 'q']) %}{{ a }}{{ b }};{% endcall %}",
    "{% macro f() %}x{% endmacro %}{% call f() %}a{% endcall %}", "{% macro f() %}{{ caller is defined }}{% if caller %}{{ caller() }}{% endif %}{% endmacro %}{{ f() }}{% call f() %}c{% endcall %}",
    "{% for i in [1, 2] %}{% macro f() %}{{ i }}{{ loop.index }}{% endmacro %}{{ f() }}{% endfor %}{{ f is defined }}",
    "{% macro f(a, b=2, c) %}{% endmacro %}", "{% macro f(**k) %}{% endmacro %}", "{% macro 1() %}{% endmacro %}",
    "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(*[1]) }}{{ f(**{'x': 2}) }}{% macro g(a, b, c) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ g(1, *[2], **{'c': 3}) }}{{ g(*'xyz') }}",
    "{% set ns = namespace() %}{% macro f(x) %}({{ x }}){% endmacro %}{% set ns.f = f %}{{ ns.f(1) }}{% set d = {'f': f} %}{{ d.f(2) }}{{ d['f'](3) }}{{ (f)(4) }}{{ [f][0](5) }}",
    # blocks
    "{% set x %}a{{ 1 }}\n{% endset %}[{{ x }}]{% set y | upper | trim %} b {{ x }}{% endset %}[{{ y }}]{% set x %}{% set z = 1 %}{% endset %}[{{ x }}]{{ z is defined }}",
    "{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s %}{{ ns.s }}{{ m.role[0] }}{% endset %}{% endfor %}{{ ns.s }}",
    "{% filter upper %}abc{{ 'd' }}{% endfilter %}{% filter trim|replace('b', 'x') %} abb {% endfilter %}{% filter indent(2, true) %}a\nb{% endfilter %}",
    "{% with x = 1, y = 2 %}{{ x }}{{ y }}{% set x = 3 %}{{ x }}{% endwith %}{{ x is defined }}{% with %}a{% endwith %}{% set x = 1 %}{% with x = 2, y = x %}{{ x }}{{ y }}{% endwith %}{{ x }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d) = 'xy' %}{{ c }}{{ d }}{% set ns = namespace() %}{% set ns.p, q = [1, 2] %}{{ ns.p }}{{ q }}{% set t = 1, %}{{ t }}{% set a, b = b, a %}{{ a }}{{ b }}",
    "{% set a, b = 1, 2, 3 %}", "{% for a, (b, c) in [(1, (2, 3)), (4, [5, 6])] %}{{ a }}{{ b }}{{ c }} {% endfor %}{% for x in 1, 2 %}{{ x }}{% endfor %}{{ 1, 'a' }}",
    "a {% raw %} {{ x }} {% if %}\n{% endraw %}\nb {%- raw -%} {# c #} {%- endraw -%} d\n  {% raw %}e\n  {% endraw %}\nf{% raw %}{% endraw %}", "{% raw %}{{ x", "{% print 1 + 1 %}{% print 'a' ~ 'b' %}",
    "{% for i in [[1, [2]], [3]] recursive %}{{ i if i is number }}{% if i is not number %}({{ loop(i) }}){% endif %}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}",
    "{% for i in [{'n': 'a', 'c': [{'n': 'b', 'c': []}]}, {'n': 'd', 'c': []}] recursive %}{{ loop.index }}{{ i.n }}{% if i.c %}<{{ loop(i.c) }}>{% endif %}{% endfor %}",
    "{% for i in [1] %}{{ loop(i) }}{% endfor %}", "{% for i in [1, 1, 2] %}{{ loop.cycle('a', 'b') }}{{ loop.changed(i) }}{% endfor %}", "{% set loop = 1 %}{{ loop }}", "{% for i in [1] %}{% set loop.x = 1 %}{% endfor %}",
    # values as text, and what they are made of
    "{{ [1, 'a', none, true, 1.5, ['b'], ('c',), {}, undefined_name] }} {{ {'a': 1, 'b\n': 'it\\'s'} }} {{ () }} {{ (1,) }} {{ (1, 2) }} {{ [] }}",
    "{{ ['\u00e9\u3042\U0001f600', '\u00a0\u200b\u2028\x7f\x01', '\"', '\\'\"', '\\\\'] }} {{ 'x' ~ [1] }} {{ [1]|string + 'y' }} {{ [[1], (2, 3)]|join('-') }}",
    "{{ '-' * 3 }}{{ 3 * 'ab' }}{{ [1] * 2 }}{{ (1,) * 2 }}{{ 'a' * 0 }}{{ 'a' * -1 }} {{ (1,) + (2,) }} {{ 2 ** 3 }} {{ 2 ** -1 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 2.0 ** 3 }} {{ 2 ** 0.5 }} {{ 7 ** 0 }} {{ (-3) ** 3 }}",
    "{{ [1] + (2,) }}", "{{ 0 ** -1 }}", "{{ [1, 2] < [1, 3] }} {{ (1, 2) < (1,) }} {{ [1] == (1,) }} {{ [] < [0] }} {{ [1, 'a'] < [2, 3] }} {{ (1, 2) in [(1, 2)] }}",
    "{{ 0x1F }} {{ 0o17 }} {{ 0b101 }} {{ 1_000 }} {{ 1e3 }} {{ 1.5e-3 }} {{ 1E+2 }} {{ 1_0.2_5 }} {{ 0_0 }} {{ '\\101\\0\\x41' }} {{ 1e16 }} {{ 1e-5 }} {{ 123456789.0 }} {{ 1e22 }}", "{{ 0x }}", "{{ 1_ }}", "{{ 1__0 }}",
    "{{ '%s-%d-%r' % ('a', 3, 'b') }} {{ '%5.1f|%-5s|%05d|%+d|%x|%%|%5s|%.2s' % (2.25, 'ab', 42, 7, 255, 'cd', 'efg') }} {{ '%s' % 'x' }} {{ '%s' % [1, 2] }} {{ '%(a)s %(b)03d' % {'a': 1, 'b': 2} }} {{ '%e %g %G %o' % (12345.678, 0.00001, 1e20, 8) }} {{ '%d' % 3.9 }} {{ '%*d' % (5, 42) }} {{ '% d|%#x' % (5, 255) }}",
    "{{ '%d' % 'a' }}", "{{ '%s %s' % ('a',) }}", "{{ '%s' % ('a', 'b') }}", "{{ 'a' % 1 }}",
    "{{ 'a{}b{}'.format(1, 'x') }} {{ '{1}{0}{n}'.format(1, 2, n=3) }} {{ '{:>5}|{:<5}|{:^5}|{:05d}|{:.2f}|{:,}|{:x}|{:#x}|{:+}|{:*^7}'.format('a', 'b', 'c', 42, 3.14159, 1234567, 255, 255, 5, 'm') }} {{ '{{{}}}'.format(1) }} {{ '{0[0]}{0[1]}{m[k]}'.format([1, 2], m={'k': 'v'}) }} {{ '{!r} {!s}'.format('a', 'b') }} {{ '{:e} {:.3g} {:%} {:5} {:.1%}'.format(12345.678, 0.00012345, 0.25, 1.0, 0.125) }} {{ '{}'.format([1]) }} {{ '{:5}|{:<5}|{}'.format(true, 3, none) }}",
    "{{ '{} {}'.format(1) }}", "{{ '{'.format(1) }}", "{{ '{x}'.format(1) }}", "{{ '{:d}'.format('a') }}", "{{ '%s|%s'|format('a', 1) }} {{ '%(x)s'|format(x=2) }}",
    # filters
    "{{ [3, 1, 2]|sort }} {{ ['b', 'A', 'c']|sort }} {{ ['b', 'A', 'c']|sort(case_sensitive=true) }} {{ [1, 3, 2]|sort(reverse=true) }} {{ messages|sort(attribute='role')|map(attribute='role')|join(',') }} {{ {'b': 1, 'a': 2}|sort }} {{ [[2, 'x'], [1, 'y']]|sort }} {{ messages|sort(attribute='role,content')|map(attribute='content')|join(',')|tojson }}",
    "{{ [1, 'a']|sort }}", "{{ [1, 1.0, true, 2, 'a', 'A', none]|unique|list }} {{ ['a', 'A']|unique(true)|list }} {{ messages|unique(attribute='role')|map(attribute='role')|list }}",
    "{{ [3, 1, 2]|min }}{{ [3, 1, 2]|max }}{{ ['b', 'A']|min }}{{ []|max is defined }}{{ [1, 2, 3]|sum }}{{ [0.1, 0.2]|sum }}{{ []|sum }}{{ [{'n': 1}, {'n': 5}]|sum(attribute='n', start=10) }}{{ [{'n': 1}, {'n': 5}]|max(attribute='n') }}",
    "{{ [1, 2, 3, 4, 5]|batch(2)|list }} {{ [1, 2, 3]|batch(2, 'x')|list }} {{ [1, 2, 3, 4, 5]|slice(3)|list }} {{ [1, 2, 3, 4]|slice(3, 'x')|list }} {{ 'abc'|reverse }} {{ [1, 2]|reverse|list }} {{ {'b': 1, 'A': 2, 'c': 0}|dictsort }} {{ {'b': 1, 'a': 2}|dictsort(by='value', reverse=true) }}",
    "{{ '3'|int + 1 }} {{ '42.9'|int }} {{ 'x'|int }} {{ 'x'|int(7) }} {{ none|int }} {{ '0x1f'|int(base=16) }} {{ '1f'|int(0, 16) }} {{ ' -5 '|int }} {{ 3.99|int }} {{ -3.99|int }} {{ true|int }} {{ '2.5'|float }} {{ 'x'|float }} {{ 'x'|float(1) }} {{ 3|float }} {{ '1e3'|float }} {{ [1]|int(4) }}",
    "{{ 2.5|round }} {{ 3.5|round }} {{ 2.675|round(2) }} {{ 2.1|round(method='ceil') }} {{ 2.19|round(1, 'floor') }} {{ 5|round }} {{ 2.5|round|int }} {{ -1.5|round }} {{ -3|abs }} {{ -2.5|abs }} {{ 3|abs }}",
    "{{ 'ab c-d (e) [f <g \u00e9x a.b'|title }} {{ 'hELLO wORLD'|title }} [{{ 'ab'|center(7) }}] [{{ 'abc'|center(6) }}] {{ 'a b c d e f g h'|truncate(9) }} {{ 'abcdefghijklmnop'|truncate(9, true) }} {{ 'abcdefghijkl'|truncate(9, true, '..', 0) }} {{ 'short'|truncate(9) }}",
    "[{{ 'a\nb\n\nc'|indent }}] [{{ 'a\nb'|indent(2, true) }}] [{{ 'a\n\nb'|indent(1, blank=true) }}] [{{ 'a\nb'|indent('> ', first=true) }}] [{{ ''|indent }}] [{{ 'a\n'|indent }}]",
    "{{ 'x'|safe }} {{ '<a>'|safe }} {{ [1]|safe }}", "{{ 'aXbXc'|replace('X', '-', 1) }} {{ 'abc'|replace('', '-') }} {{ 121|replace(1, 3) }} {{ 'aaa'|replace('a', 'b', 0) }}",
    "{{ ['a', 'b']|map('upper')|join }} {{ ['ab', 'cb']|map('replace', 'b', 'x')|list }} {{ [{'a': {'b': 1}}]|map(attribute='a.b')|list }} {{ [{}, {'x': 1}]|map(attribute='x', default='d')|list }} {{ [[1, 2], [3, 4]]|map(attribute=1)|list }} {{ [[5]]|map(attribute='0')|list }} {{ messages|join(',', attribute='role') }} {{ [[1, 2], [3]]|map('length')|list }} {{ [1, 2, 3]|select('==', 2)|list }} {{ [1, 2, 3]|reject('greaterthan', 1)|list }}",
    "{% if messages|selectattr('role', 'equalto', 'nobody') %}S{% endif %}{% set g = [1, 2]|map('string') %}{{ g|join }}{{ g|join }}|{{ g|first is defined }} {% set h = [1, 2, 3]|select %}{{ h|first }}{{ h|list }} {{ [1, 2]|map('string') is sequence }}{{ [1]|map('string') is iterable }} {{ 2 in [1, 2, 3]|select }}",
    "{{ [1]|select|length }}", "{{ [1]|select|last }}", "{{ ([1]|select)[0] is defined }}", "{{ [1]|select|tojson }}", "{{ {'a': 1}.items()|list }} {{ {'a': 1}|items|list }} {{ {'a': 1}.items() is sequence }} {{ {'a': 1}.keys()|first }} {{ {'a': 1, 'b': 2}.values()|sum }} {{ {'a': 1}.items()|length }} {{ 'a' in {'a': 1}.keys() }} {{ ({'a': 1}.keys())[0] is defined }} {{ {}.items() or 'empty' }}",
    "{{ range(3)|list }} {{ range(2, 9, 3)[1] }} {{ range(5)|length }} {{ range(3) is sequence }} {{ range(5)[1:3]|list }} {{ range(3)|last }} {{ 2 in range(3) }} {{ range(0) or 'empty' }}",
    # JSON
    "{{ [1, {'a': 2}]|tojson(separators=(',', ':')) }} {{ {'b': 1, 'a': {'d': 1, 'c': 2}}|tojson(sort_keys=true) }} {{ (1, (2,))|tojson }} {{ [1, [2]]|tojson(indent='\t') }} {{ [1]|tojson(true, 1) }} {{ {'a': 1}|tojson(indent=0) }} {{ {'a': [1]}|tojson(indent=1, separators=(', ', ' : ')) }} {{ 1e400|tojson }} {{ '</script>&'|tojson }}",
    # tests
    "{{ none is sameas none }} {{ true is sameas true }} {{ 1 is sameas true }} {{ 'abc' is lower }} {{ 'ABC' is upper }} {{ 'aB' is lower }} {{ 'a' is eq 'a' }} {{ 2 is greaterthan 1 }} {{ 2 is lessthan 1 }} {{ 3 is ge 3 }} {{ 1 is callable }} {{ range is callable }} {{ loop is defined }} {{ () is sequence }}",
    # functions
    "{{ dict(a=1, b='x') }} {{ dict({'a': 1}, a=2) }} {{ dict([('k', 'v')]) }} {{ dict().x is defined }} {% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns['a'] }} {% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }} {% set j = joiner('; ') %}{% for i in [1, 2, 3] %}{{ j() }}{{ i }}{% endfor %}",
    "{% set namespace = 1 %}{{ namespace }}", "{{ foo() }}", "{{ 'a'() }}", "{{ messages() }}", "{{ foo.bar() }}", "{{ namespace(_x=1) }}", "{{ messages[0].foo() }}", "{{ [1].append(2) }}", "{{ {}.update({}) }}",
    # methods
    "{{ 'abcabc'.count('a') }} {{ 'abcabc'.find('c', 3) }} {{ 'abcabc'.rfind('b') }} {{ 'abc'.index('c') }} {{ 'abca'.rindex('a') }} {{ '\u00e9ab\u00e9'.rfind('\u00e9') }} {{ 'abcabc'.count('bc', 2) }} {{ 'abc'.find('a', -2) }} {{ 'abc'.startswith('b', 1) }} {{ 'abc'.endswith('b', 0, 2) }} {{ 'abc'.startswith(('x', 'a')) }}",
    "{{ 'a,b,c'.rsplit(',', 1) }} {{ 'a\nb\r\nc\n'.splitlines() }} {{ 'a\nb'.splitlines(true) }} {{ 'k=v=w'.partition('=') }} {{ 'k=v=w'.rpartition('=') }} {{ 'kv'.partition('=') }} {{ 'a b'.split() }} {{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.txt'.removesuffix('.txt') }} {{ 'aXa'.replace('a', 'b', 1) }}",
    "{{ '7'.zfill(3) }}{{ '-7'.zfill(4) }} [{{ 'a'.ljust(3) }}] [{{ 'a'.rjust(3, '.') }}] [{{ 'ab'.center(5) }}] [{{ 'a'.center(4) }}] {{ 'hello wORLD it\\'s'.title() }} {{ 'abc'.capitalize() }} {{ '12'.isdigit() }}{{ '1a'.isdigit() }}{{ 'ab'.isalpha() }}{{ 'a1'.isalnum() }}{{ ' '.isspace() }}{{ ''.isspace() }}{{ 'AB'.isupper() }}{{ 'ab1'.islower() }}{{ '1'.islower() }}{{ '5'.isdecimal() }}{{ 'a'.isascii() }}{{ '\u00e9'.isascii() }}",
    "{{ [1, 2, 1].count(1) }} {{ [1, 2].index(2) }} {{ {'a': 1}.copy() }} {{ (1, 2).index(2) }} {{ [1].copy() }}", "{{ 'abc'.index('x') }}", "{{ [1].index(2) }}", "{{ 'a'.startswith(['a']) }}", "{{ ', '.join([1]) }}",
    "{{ messages.0.role }} {{ [1, [2, 3]].1.0 }} {{ {'a': 1}['b'] is defined }} {{ 'a' 'b' in ['ab'] }} {{ (1 if true else 2, 3) }} {{ [1, 2,] }} {{ {'a': 1,} }} {% if 1, 2 %}t{% endif %}",
    # what Jinja refuses while it renders
    "{{ x.y }}", "{{ x['y'] }}", "{{ 'a' + 1 }}", "{{ 1 ~ 2 + 3 }}", "{{ 'a' + x }}", "{{ 1 in 'a' }}", "{{ none|length }}", "{% for i in none %}{% endfor %}",
    "{{ 1 // 0 }}", "{{ 1 < 'a' }}", "{{ raise_exception('no ' ~ 'way') }}", "{% set m = {} %}{% set m.x = 1 %}", "{{ x|tojson }}",
    "{{ x.strip() }}", "{{ messages.strip() }}", "{{ 'a'.split('') }}", "{{ range(1000000)|length }}", "{% for a, b in [1] %}{% endfor %}",
    # and while it reads
    "{% if 1 %}", "{% endif %}", "{{ 1", "{{ 'a }}", "{# a", "{{ }}", "{% for %}{% endfor %}", "{{ 1 + }}", "{{ (1 }}", "{{ 1) }}",
    "{% if 1 %}{% endfor %}", "{{ a b }}", "{% else %}", "{% set true = 1 %}", "{{ [1, }}", "{{ a. }}", "{{ a| }}", "{{ 1 is }}", "{% nonsense %}",
    "{% if 1 %}{% else %}{% else %}{% endif %}", "{{ ; }}", "{{ 02 }}", "{% set 1 = 2 %}", "{{ a[ }}", "{{ {'a' 1} }}", "{%",
]


def render(template, messages, add_generation_prompt, bos, eos):
    """The text, or None with the message where the template is refused."""
    # transformers leaves a token that the tokenizer does not have undefined
    tokens = {name: token for name, token in (("bos_token", bos), ("eos_token", eos)) if token}
    try:
        _compile_jinja_template(template).globals["strftime_now"] = lambda form: f"<{form}>"
        texts, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=add_generation_prompt, **tokens)
        return {"text": texts[0]}
    except (jinja2.exceptions.TemplateError, SyntaxError, LookupError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        return {"error": str(error)}


def main():
    families = {}
    for family, (bos, eos, source) in FAMILIES.items():
        template = (HERE / "templates" / f"{family}.jinja").read_text(encoding="utf-8")
        families[family] = {"source": source, "bos_token": bos, "eos_token": eos, "results": [
            {"conversation": name, "add_generation_prompt": prompt, **render(template, messages, prompt, bos, eos)}
            for name, messages in CONVERSATIONS.items() for prompt in (True, False)]}
    write("conversations.json", {"conversations": CONVERSATIONS, "families": families})
    messages = CONVERSATIONS["several turns"]
    write("snippets.json", [{"template": s, **render(s, messages, True, "<s>", "</s>")} for s in SNIPPETS])


def write(name, value):
    (HERE / name).write_text(json.dumps(value, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
