#!/usr/bin/env python3
"""Writes template_cases.jsonl: what jinja2, set up as transformers does it, makes of small templates.
Needs transformers 5.23 and jinja2 3.1.6. First line: the variables; then {"source", "text"}, or
{"source", "fails"} where jinja2 fails.

    python3 tests/golden/make_template_cases.py > tests/golden/template_cases.jsonl
"""
import datetime
import json

from transformers.utils import chat_template_utils

VARIABLES = {
    'd': {'b': 1, 'a': [1, 2, {'x': None}], 'C': 'zed', 'items': 5}, 'l': [3, 1, 2],
    's': 'Hello w\xf6rld', 'e': '', 'n': None, 't': True, 'f': 2.5, 'i': 7, 'big': 1e20, 'tiny': 1e-7,
    'neg': -7, 'ws': '  a b \n',
    'm': [{'role': 'user', 'content': 'hi', 'k': 2}, {'role': 'assistant', 'content': 'yo', 'k': 1},
          {'role': 'user', 'content': None}],
    'nested': {'a': {'b': {'c': 'deep'}}}, 'z': [[1, 2], [3, 4]], 'q': 'it\'s "q"',
    'uni': '\xe9\u200b\xa0\U0001f600\n\x07'}

SOURCES = [
    '{{ d }}|{{ l }}|{{ s }}|{{ n }}|{{ t }}|{{ f }}|{{ big }}|{{ tiny }}|{{ m }}',
    '{{ d|tojson }}|{{ d|tojson(indent=2) }}|{{ d|tojson(sort_keys=true) if false else 1 }}',
    '{{ uni|tojson }}|{{ uni|tojson(ensure_ascii=true) }}|{{ [uni] }}|{{ [q] }}|{{ ["it\'s"] }}|{{ [\'a"b\'] }}',
    "{{ {'z':1,'a':{'y':1,'b':2}}|tojson(sort_keys=true,indent=4,separators=(',',':')) }}",
    '{{ {} | tojson(indent=2) }}{{ [] | tojson(indent=2) }}{{ [[],{}]|tojson(indent=2) }}',
    '{{ 7//2 }} {{ -7//2 }} {{ 7%3 }} {{ -7%3 }} {{ 7/2 }} {{ 6/2 }} {{ 2**10 }} {{ 2**-1 }} {{ 2**0.5 '
    '}} {{ 7.5//2 }} {{ -7.5%2 }}',
    "{{ 1+2*3 }} {{ (1+2)*3 }} {{ -2**2 }} {{ 2**3**2 }} {{ 1 - 1 - 1 }} {{ 10/4*2 }} {{ 'a'~1~none~true }}",
    '{{ 1 + 1 ~ 2 }}',
    "{{ 'ab'*3 }} {{ [1]*3 }} {{ 3*'x' }} {{ 'a' + 'b' }} {{ [1]+[2] }} {{ (1,)+(2,) }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ [1,2] < [1,3] }} "
    '{{ none == none }} {{ {} == {} }}',
    "{{ 'a' in 'abc' }} {{ 'x' not in 'abc' }} {{ 1 in [1,2] }} {{ 'b' in d }} {{ 3 in (1,2) }} {{ not "
    'true }} {{ not e }}',
    "{{ not 1 == 2 }} {{ not 'a' in 'b' }} {{ true and false or true }} {{ n or 'dflt' }} {{ e or s }} "
    '{{ 0 and x }} {{ s and l }}',
    "{{ 'yes' if t else 'no' }} {{ 'yes' if n }}| {{ 'a' if false else 'b' if false else 'c' }}",
    '{{ s[0] }} {{ s[-1] }} {{ s[1:3] }} {{ s[::-1] }} {{ s[:-2] }} {{ s[::2] }} {{ l[0] }} {{ l[-1] }} '
    '{{ l[1:] }} {{ l[::-1] }} {{ l[5] }} {{ l[-9:9] }} {{ s[7] }} {{ s[-4:] }}',
    "{{ d.a }} {{ d['a'] }} {{ d.items() | list }} {{ d['items'] }} {{ d.keys()|list }} {{ d.get('zz') "
    "}} {{ d.get('zz', 4) }} {{ d.zz }} {{ d.a[2].x }}",
    "{{ nested.a.b.c }} {{ nested['a']['b'].c }} {{ nested.a.x is defined }} {{ nested.x.y is defined }}",
    "{{ undefined_x }}|{{ undefined_x is defined }}|{{ undefined_x | default('q') }}|{{ e | "
    "default('q') }}|{{ e|default('q', true) }}|{{ n|default('q') }}",
    '{{ undefined_x.foo }}',
    '{{ undefined_x + 1 }}',
    "{{ undefined_x ~ 'a' }}",
    "{{ none.foo }}|{{ none['foo'] }}|{{ n.x is undefined }}",
    '{{ s|upper }} {{ s|lower }} {{ s|capitalize }} {{ s|title }} {{ ws|trim }}| {{ ws.strip() }}| {{ '
    "'xxaxx'.strip('x') }} {{ 'xyaxy'.lstrip('yx') }} {{ 'abc'.rstrip('c') }}",
    '{{ "they\'re bill\'s friends-of (mine) [ok]"|title }} {{ "they\'re bill\'s".title() }} {{ \'hELLO '
    "wORLD'.capitalize() }} {{ 'aBc'.swapcase() }}",
    "{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a,b,c'.split(',', 1) }} {{ "
    "'a,b,c'.rsplit(',', 1) }} {{ 'abc'.split('x') }} {{ ''.split() }} {{ ''.split(',') }} {{ ' a b  c "
    "'.split(none, 1) }}",
    "{{ 'a\\nb\\r\\nc\\n'.splitlines() }} {{ 'a\\n\\nb'.splitlines(true) }} {{ 'k=v=w'.partition('=') "
    "}} {{ 'k=v=w'.rpartition('=') }} {{ 'kv'.partition('=') }} {{ 'kv'.rpartition('=') }}",
    "{{ 'abc'.startswith('a') }} {{ 'abc'.endswith(('x','c')) }} {{ 'abcabc'.replace('b','X') }} {{ "
    "'abcabc'.replace('b','X',1) }} {{ 'abc'.replace('','-') }} {{ 'abcb'.find('b') }} {{ "
    "'abcb'.rfind('b') }} {{ 'w\xf6rld'.find('l') }} {{ 'abc'.find('z') }} {{ 'banana'.count('an') }} "
    "{{ 'abc'.count('') }}",
    "{{ ','.join(['a','b']) }} {{ l|join('-') }} {{ m|join(',', attribute='role') }} {{ [1,none,true]|join }}",
    "{{ '12'.isdigit() }} {{ ''.isdigit() }} {{ 'ab1'.isalnum() }} {{ 'ab'.isalpha() }} {{ ' "
    "\\n'.isspace() }} {{ 'AB'.isupper() }} {{ 'Ab'.islower() }} {{ 'a1'.islower() }}",
    "{{ 'prefix_x'.removeprefix('prefix_') }} {{ 'x.txt'.removesuffix('.txt') }}",
    "{{ l|sort }} {{ l|sort(reverse=true) }} {{ ['b','A','c']|sort }} {{ "
    "['b','A','c']|sort(case_sensitive=true) }} {{ "
    "m|selectattr('k','defined')|sort(attribute='k')|map(attribute='k')|list }}",
    '{{ l|first }} {{ l|last }} {{ l|length }} {{ s|length }} {{ d|length }} {{ l|reverse|list }} {{ '
    's|reverse }} {{ l|sum }} {{ l|min }} {{ l|max }} {{ [1.5,2]|sum }} {{ []|first }}|',
    "{{ [1,1,2,'a','A']|unique|list }} {{ ['b','a']|map('upper')|list }} {{ "
    "m|map(attribute='role')|join(' ') }} {{ m|map(attribute='zz', default='D')|list }}",
    "{{ m|selectattr('role','equalto','user')|list|length }} {{ "
    "m|rejectattr('role','eq','user')|map(attribute='content')|list }} {{ [1,2,3,4]|select('even')|list "
    "}} {{ [1,2,3]|reject('odd')|list }} {{ [0,1,'']|select|list }} {{ "
    "m|selectattr('content')|list|length }} {{ l|select('>', 1)|list }} {{ l|select('in',[1,2])|list }}",
    "{{ d|dictsort }} {{ {'b':1,'A':2}|dictsort }} {{ {'b':1,'A':2}|dictsort(true) }} {{ "
    "{'b':1,'A':2}|dictsort(false,'value') }} {{ {'b':1,'A':2}|dictsort(reverse=true) }}",
    "{{ d|items|list }} {{ undefined_x|items|list }} {{ z|map('sum')|list }} {{ z|map('first')|list }} "
    "{{ l|batch(2)|list }} {{ l|batch(2,'x')|list }}",
    "{% for k,v in m|groupby('role') %}{{ k }}:{{ v|length }};{% endfor %}",
    "{{ 3.7|int }} {{ '42'|int }} {{ 'x'|int }} {{ 'x'|int(5) }} {{ '3.9'|int }} {{ '2.5'|float }} {{ "
    "'x'|float }} {{ 3|float }} {{ -3|abs }} {{ (-3)|abs }} {{ 2.567|round(2) }} {{ 2.5|round }} {{ "
    "3.5|round }} {{ 2.1|round(0,'ceil') }} {{ 2.9|round(method='floor') }} {{ 1|string }} {{ "
    "none|string }} {{ 'ff'|int(base=16) }}",
    "{{ 'a\\nb\\n\\nc'|indent }}|{{ 'a\\nb'|indent(2,true) }}|{{ 'a\\n\\nb\\n'|indent(2,blank=true) "
    "}}|{{ 'a\\nb'|indent('>>') }}|{{ ''|indent }}|",
    '{{ \'<a href="x">&\\\'</a>\'|e }} {{ \'x\'|safe }} {{ \'a b  c\'|wordcount }} {{ \'%s=%d '
    "%.2f%%'|format('x', 3, 1.5) }} {{ '%s' % 'q' }} {{ '%d-%s' % (1,'b') }} {{ '%5d|%-5s|%05.1f' % "
    "(3,'a',2.25) }}",
    '{% set x = 1 %}{% for i in [1,2] %}{% set x = x + i %}{{ x }},{% endfor %}{{ x }}',
    "{% set ns = namespace(x=1, y='a') %}{% for i in [1,2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ "
    'ns.x }}{{ ns.y }}{{ ns.zz is defined }}',
    '{% if t %}{% set y = 5 %}{% endif %}{{ y }}{% if n %}{% set w = 5 %}{% endif %}{{ w }}',
    '{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ '
    'loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}',
    '{% for i in l if i > 1 %}{{ i }}{{ loop.index }}{{ loop.last }} {% else %}none{% endfor %}|{% for '
    'i in [] %}x{% else %}empty{% endfor %}',
    '{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for c '
    "in 'a\xe9' %}[{{ c }}]{% endfor %}",
    '{% for a, b in z %}{{ a }}-{{ b }} {% endfor %}{% for i in range(3) %}{{ i }}{% endfor %}{{ '
    'range(1,10,3)|list }}{{ range(5,0,-2)|list }}',
    '{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif '
    '%}{{ i }}{% endfor %}',
    '{% for i in [1,2] %}{% for j in [3,4] %}{{ loop.index }}{{ i }}{{ j }} {% endfor %}{{ loop.index '
    '}}{% endfor %}',
    '{% for i in [1,[2,[3]]] recursive %}{% if i is iterable %}<{{ loop(i) }}>{% else %}{{ i }}@{{ '
    'loop.depth }}{% endif %}{% endfor %}',
    "{% macro f(a, b=2, c='x') %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ f(1) }}{{ f(1,3) }}{{ "
    "f(1,c='y') }}{{ f(a=9) }}{{ f() }}",
    "{% macro f(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1,2) }}{{ f('x')|upper }}",
    '{% macro g(x) %}{{ h(x) }}{% endmacro %}{% macro h(x) %}<{{ x }}>{% endmacro %}{{ g(3) }}',
    '{% macro fact(k) %}{% if k > 1 %}{{ k }}*{{ fact(k-1) }}{% else %}1{% endif %}{% endmacro %}{{ fact(5) }}',
    '{% macro f() %}{{ caller() }}!{{ caller() }}{% endmacro %}{% call f() %}hi{% endcall %}',
    '{% macro f() %}{{ caller(1) }}{% endmacro %}{% call(x) f() %}<{{ x }}>{% endcall %}',
    '{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1,2) }}',
    '{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}',
    '{% set x %}abc{{ 1 }}{% endset %}{{ x }}|{% set y | upper %}abc{% endset %}{{ y }}|{% filter upper '
    '%}abc{{ s }}{% endfilter %}|{% filter trim|upper %} q {% endfilter %}',
    '{% with a=1, b=2 %}{{ a }}{{ b }}{% endwith %}{{ a }}|{% with %}{% set q2 = 3 %}{{ q2 }}{% endwith '
    '%}{{ q2 }}',
    '{% generation %}{% set gg = 1 %}{{ gg }}{% endgeneration %}{{ gg }}',
    '{% raw %}{{ x }}{% if %}{% endraw %}|{% raw -%}  a  {%- endraw %}|',
    '{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, dd) = (3,4) %}{{ c }}{{ dd }}{% set t2 = 1, 2 %}{{ '
    't2 }}{{ (1,) }}{{ () }}{{ (1) }}',
    '{{ \'a\' \'b\' "c" }} {{ \'a\\tb\\\\n\\\'q\\x41\\u00e9\\q\' }} {{ 1_000 }} {{ 1.5e3 }} {{ 1e3 }}',
    '{{ .5 }}',
    "{{ [1,2,] }} {{ {'a':1,} }} {{ {1:2, 'a':{}, none: true} }} {{ {1:2, none:3, true:4}|tojson }}",
    "{{ 1 is odd }} {{ 2 is even }} {{ 4 is divisibleby 2 }} {{ 4 is divisibleby(3) }} {{ 's' is string "
    '}} {{ 1 is number }} {{ 1.0 is float }} {{ 1 is integer }} {{ true is integer }} {{ true is number '
    '}} {{ true is boolean }} {{ none is none }} {{ d is mapping }} {{ l is sequence }} {{ d is '
    "sequence }} {{ s is sequence }} {{ l is iterable }} {{ 1 is iterable }} {{ 'A' is upper }} {{ 'a' "
    'is lower }} {{ 1 is not string }} {{ 1 is eq 1 }} {{ 3 is gt 2 }} {{ 1 is in [1] }} {{ t is true '
    '}} {{ n is false }} {{ f is callable }} {{ range is callable }} {{ 1 is sameas 1 }}',
    "{{ s is defined and s is string }} {{ x is not defined or true }} {{ 'a' is in 'abc' }} {{ not x "
    'is defined }} {{ (x is defined) == false }}',
    "{{ raise_exception('boom ' ~ 1) }}",
    "{{ strftime_now('%Y-%m-%d %H:%M:%S %B %d %b %a %j') }}",
    '{{ dict(a=1, b=2) }} {{ dict(d, z=1)|length }} {{ namespace(a=1).a }}',
    '{{ foo() }}',
    '{{ s.foo() }}',
    '{{ 1() }}',
    '{{ s|nofilter }}',
    '{{ s is notest }}',
    "{{ 'x' + 1 }}",
    "{{ 1 + 'x' }}",
    "{{ none + 'x' }}",
    '{{ [1] + (2,) }}',
    '{{ 1 in 2 }}',
    "{{ 1 in 'abc' }}",
    "{{ 1 < 'a' }}",
    '{{ none < 1 }}',
    '{% for x in 5 %}{% endfor %}',
    '{% for x in none %}{% endfor %}',
    '{{ none|length }}',
    '{% for a, b in [1] %}{% endfor %}',
    '{% for a, b in [[1,2,3]] %}{% endfor %}',
    '{{ 1/0 }}',
    '{{ 1//0 }}',
    '{{ {[1]:2} }}',
    '{{ none|tojson }}{{ undefined_x|tojson }}',
    '{{ l.append(3) }}',
    '{{ d.update({}) }}',
    '{% set d.x = 1 %}',
    '{% if %}x{% endif %}',
    '{% foo %}',
    '{{ ',
    '{% if true %}',
    '{% endif %}',
    "{{ 'abc }}",
    '{{ ) }}',
    '{{ a b }}',
    '{% for x in %}{% endfor %}',
    '{# unclosed',
    '{% endfor %}',
    '{{ z.0.1 }}|{{ z[0][1] }}',
    '{{ a.1.b }}',
    'a{#- c -#}  b {#+ x +#} c',
    '  {% if true %}  x  {% endif %}  ',
    "{{ (1 if true else 2) + 3 }} {{ [x*2 if x else 0] if false else 'ok' }}",
    "{{ 'a' if s is string and (l|length > 2 or n) else 'b' }}",
    '{{ -1|abs }} {{ - 1 }} {{ +1 }} {{ --1 }} {{ 3 - -1 }}',
    "{{ s|replace('l','L')|upper|length }} {{ (s|upper)[0:2] }} {{ s|upper|list|first }} {{ d.a|first "
    "}} {{ 'a'|attr('upper') is callable }}",
    '{{ "%s"|format(none) }} {{ "a" ~ [1,\'b\'] ~ {\'c\':1.0} }} {{ 1.0 }} {{ 100000000000000000.0 }} '
    '{{ 0.1+0.2 }} {{ 1e16 }} {{ 123456789012345.6 }} {{ 1e-5 }} {{ 0.0001 }} {{ -0.0 }} {{ 5e-324 }} '
    '{{ 1.7976931348623157e308 }}',
    '{{ 9223372036854775807 }}',
    "{{ l|tojson }} {{ (1,2)|tojson }} {{ 1.0|tojson }} {{ 'a/b'|tojson }} {{ '<>&\\''|tojson }}",
    "{{ m[0] == m[0] }} {{ m[0] == m[1] }} {{ m[-1].content is none }} {{ m[0]['role'] ~ m[1].role }} "
    '{{ loop is defined }}',
    "{% set m2 = m %}{% set m2 = m2[1:] %}{{ m2|length }} {{ m[1:]|map(attribute='role')|list }} {{ "
    '(m|list)[0].role }}',
    '{%- for i in l -%} {{ i }} {%- endfor -%}   x',
    "{% for x in l %}{{ loop.cycle('a','b') }}{% endfor %}",
    '{% for x in [1,1,2] %}{{ loop.changed(x) }}{% endfor %}',
    "{{ '{} {}'.format(1,'a') }} {{ '{0}{x}'.format(1,x=2) }}",
    "{{ 'abc'.center(7) }}|{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3) }}|{{ '7'.zfill(3) }}|{{ 'abc'|center(9) }}|",
    '{{ d.a is sequence and d.a is not string }} {{ d is not sequence }} {{ undefined_x is iterable }} '
    "{{ undefined_x|list }} {{ undefined_x|length }} {{ undefined_x|upper }}|{{ undefined_x|join(',') "
    '}}|{{ undefined_x|trim }}|{{ undefined_x == undefined_y }} {{ undefined_x == none }} {{ '
    "undefined_x is none }} {{ undefined_x in [1] }} {{ 1 in undefined_x }} {{ undefined_x or 'z' }}",
    "{{ [undefined_x] }} {{ {'a':undefined_x} }}",
    '{{ undefined_x|tojson }}',
    '{{ undefined_x[0] }}',
    '{{ undefined_x() }}',
    '{{ undefined_x < 1 }}',
    '{{ none|int }} {{ none|string|length }} {{ none|upper }} {{ 5|upper }} {{ true|lower }} {{ [1,2]|upper }}',
    '{{ undefined_x|int }}',
    '{{ undefined_x|float }}',
    '{{ 5|length }}',
    "{{ 'a'.join([1]) }}",
    "{{ l|join(1) }} {{ 'abc'|join('-') }} {{ d|join(',') }} {{ d|list }} {{ 'ab'|list }} {{ d|first }}",
    "{{ ' x '|trim('x ') }} {{ 'xax'|trim('x') }}",
    'a\n  {% if true %}\n  b\n  {% endif %}\nc\n',
    '{% if true %}\nx\n{% endif %}\n\n',
    '  {{ s }}  \n',
    'a\r\nb\r{% if true %}\r\nc{% endif %}',
    '  {#- c #}\n x',
    'x  {%- if true %} y {%- endif %} z',
    '{% if true +%}\nx{% endif %}',
    '  {%+ if true %}x{% endif %}',
    'line\n\t {%- set a=1 -%} \n  next',
    '{% set a=1 %}\n\n{% set b=2 %}\n',
    '{{ 1 }}\n{{ 2 }}\n',
    '{{ 1 -}}\n  {{ 2 }}',
    'a {#- x -#}\n b',
    '{% raw %}\n a\n{% endraw %}\nb',
    '  {% raw %} {{ x }} {% endraw %}  ',
    "{{ '\n' }}x\n",
    '\n\n',
    '{{ "a\nb" }}',
    '{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}'
    '{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{'
    " loop.cycle('a','b') }}{{ loop.depth }}{{ loop.changed(x) }};{% endfor %}",
    '{% for k, v in d.items() if v %}{{ k }}={{ v }},{% else %}none{% endfor %}',
    '{% for x in [] %}a{% else %}empty{% endfor %}',
    '{% for x in l recursive %}{{ x }}{% if loop.first %}{{ loop([9,8]) }}{% endif %}{% endfor %}',
    "{{ m | selectattr('role', 'equalto', 'user') | list }}",
    "{{ m | selectattr('content') | map(attribute='content') | join('-') }}",
    "{{ m | rejectattr('role', 'equalto', 'user') | map(attribute='role') | list }}",
    "{{ m | map(attribute='zz', default='q') | list }}",
    "{{ l | map('string') | join('+') }} {{ ['a','b'] | map('upper') | list }} {{ l | select("
    "'odd') | list }} {{ l | reject('odd') | list }} {{ l|select('>', 1)|list }}",
    "{{ l | sort }} {{ l | sort(reverse=true) }} {{ m | sort(attribute='k') | map(attribute='"
    "k') | list }} {{ ['b','A','c'] | sort }} {{ ['b','A','c'] | sort(case_sensitive=true) }}",
    "{{ l | unique | list }} {{ [1,1,2] | unique | list }} {{ ['a','A'] | unique | list }} {{"
    " l | sum }} {{ l | min }} {{ l | max }} {{ m | sum(attribute='k') if false else 0 }}",
    "{{ l | batch(2) | list }} {{ l | batch(2, 'x') | list }} {{ l | slice(2) | list }} {{ [1"
    ",2,3,4,5] | slice(3, 'z') | list }}",
    "{{ m[:2] | groupby('role') | list }}",
    "{{ 2.567 | round(2) }} {{ 2.5 | round }} {{ 2.1 | round(method='ceil') }} {{ 2.9 | round"
    "(0, 'floor') }} {{ -5 | abs }} {{ '42' | int }} {{ 'x' | int(7) }} {{ '0x1f' | int(base="
    "16) }} {{ '3.5' | float }} {{ 'x' | float(1.5) }}",
    "{{ d | dictsort }} {{ d | dictsort(true) }} {{ {'b':1,'a':2} | dictsort(by='value') }} {"
    "{ {'b':1,'a':2} | dictsort(reverse=true) }}",
    '{{ d | items | list }}',
    "{{ s | replace('l', 'L') }} {{ s | replace('l','L',1) }} {{ s | length }} {{ s | count }"
    '} {{ s | reverse }} {{ l | reverse | list }} {{ s | first }} {{ s | last }} {{ l | first'
    ' }} {{ l | last }} {{ [] | first }}',
    "{{ 'a\nb' | indent(2) }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent('> ', blank"
    '=true) }}',
    '{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}body{% endcall %}',
    '{% macro f(x) %}{{ caller(x, 2) }}{% endmacro %}{% call(a, b) f(1) %}{{ a }}-{{ b }}{% e'
    'ndcall %}',
    '{% set x %}a{{ i }}b{% endset %}{{ x }}|{{ x | upper }}',
    '{% set x | upper %}abc{% endset %}{{ x }}',
    '{% set a, b = 1, 2 %}{{ a }}{{ b }}',
    '{% set ns = namespace(a=1) %}{% for x in l %}{% set ns.a = ns.a + x %}{% endfor %}{{ ns.a }}',
    '{% filter upper %}abc{{ s }}{% endfilter %}',
    '{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}',
    '{% raw %}{{ x }}{% endraw %}',
    '{# c #}a{#- c -#} b',
    '{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% if x == 2 %}{% break %'
    '}{% endif %}{% endfor %}',
    '{% generation %}gen{{ i }}{% endgeneration %}',
    "{{ strftime_now('%d %b %Y %H:%M:%S %A %B %j %y %p %I %%') }}",
    "{{ strftime_now('%Y-%m-%d') }}",
    '{% if x is not defined %}a{% elif y %}b{% else %}c{% endif %}',
    '{{ range(5) | list }} {{ range(1, 10, 3) | list }} {{ range(5, 0, -2) | list }} {{ range'
    '(3)[1] }} {{ range(3) | length }}',
    '{{ dict(a=1, b=2) }} {{ dict(d, zz=3) | length }}',
    "{{ 'abc'[1] }}{{ (1,2)[0] }}{{ {'a': {'b': [1,2]}}['a']['b'][-1] }}{{ l[1:][0] }}",
    "{{ [1,2,3][::2] }} {{ 'abcdef'[4:1:-1] }} {{ l[:-1] }}",
    '{{ d.pop is defined }} {{ l.append is defined }} {{ l.index(1) }} {{ l.count(1) }} {{ d.'
    'values() | list }}',
    '{% do l.append(4) %}{{ l }}',
    "{{ [1, 2] + [3] }} {{ l is eq([3,1,2]) }} {{ (1, 'a', none) }} {{ (1,) }} {{ () }}",
    '{{ 1_000 }} {{ 0x1f }} {{ 0b11 }} {{ 0o17 }} {{ 1e3 }} {{ 1.5e-3 }} {{ .5 if false else 1 }}',
    "{{ 'a' 'b' }}",
    '{{ \'tab\\tnew\\nq\\\'\\"\\\\ \\u00e9 \\x41\' }}',
    '{{ none is none and not false }} {{ 1 if 0 }} {{ (1 if 0) is undefined }}',
    '{{ m | tojson(indent=1) }}',
    "{{ m | map('tojson') | join }}",
    "{{ {'a': 1.0, 'b': 1e22, 'c': 1e-5, 'd': 0.1} | tojson }} {{ 1e16 }} {{ 1234567890123456"
    '78 }} {{ 0.1 + 0.2 }}',
    '{% for a in l %}{% for b in l %}{{ loop.index }}{{ loop.depth0 }}{% endfor %}{% endfor %}',
    "{% for x in 'abc' %}{{ x }}{% endfor %}{% for x in d %}{{ x }}{% endfor %}",
    '{%- if true -%}  a  {%- endif -%}  b',
    '  {% if true %}\n  a\n  {% endif %}\nb\n',
    "{{ m[0].role }} {{ m[0]['role'] }} {{ m[0].get('role') }} {{ m[-1].content is none }} {{"
    ' m | length }}',
    "{{ d is mapping and 'a' in d }} {{ 'a' in l }} {{ 'Hello' in s }}",
    '{{ x.y.z }}',
    '{{ d.nope is undefined }} {{ d.nope | default([]) | length }}',
    "{% import 'x' as y %}",
    "{% include 'x' %}",
    "{% extends 'x' %}",
    "{{ raise_exception('x') }}",
    "{{ l | tojson | length }} {{ s | trim('H') }} {{ ' a ' | trim | length }}",
    '{{ 5 // 0 }}',
    "{{ 'a' < 1 }}",
    "{{ l | join(', ', attribute='x') }}",
    "{{ m | map(attribute='role') | unique | join(',') }} {{ m | map('length') | list }}",
    "{{ d.items() | map('first') | list }} {{ d.items() | map('last') | list | length }}",
    '{{ [[1,2],[3]] | sum(start=[]) }} {{ [1,[2]] | flatten if false else 1 }}',
    "{{ m | selectattr('k', 'defined') | list | length }} {{ m | rejectattr('content', 'none'"
    ") | list | length }} {{ m | selectattr('role', 'in', ['user']) | list | length }}",
    "{{ namespace(a=1).a }} {{ namespace({'b': 2}, c=3).b }}",
    '{% set ns = namespace() %}{% set ns.x = [] %}{% set _ = ns.x.append(1) %}{{ ns.x }}',
    "{{ ('a', 'b') | join }} {{ 'a,b'.split(',') | last }} {{ l | list | length }} {{ 1 ~ 2 |"
    ' string }}',
    "{{ 'abc' | map('upper') | join }} {{ [3,1] | sort | first }} {{ -3 | abs + 1 }} {{ 10 | "
    "float }} {{ 3.0 | int }} {{ '3.9' | int }} {{ 1.0 }} {{ 1e100 }} {{ 7 | string ~ 'x' }}",
]


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime(2025, 1, 31, 9, 5, 7)


def main():
    chat_template_utils.datetime = Clock
    print(json.dumps(VARIABLES))
    for source in SOURCES:
        try:
            text = chat_template_utils._compile_jinja_template(source).render(**VARIABLES)
            print(json.dumps({'source': source, 'text': text}))
        except Exception:
            print(json.dumps({'source': source, 'fails': True}))


main()
