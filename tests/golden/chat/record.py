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
    except (jinja2.exceptions.TemplateError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
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
