"""Texts that would break a page, a card or a terminal that did not escape them."""

HOSTILE = (
    "<script>hacked = true</script>",
    "</style><script>hacked = true</script>",
    "</title></svg></table><img src=x onerror='hacked = true'>",
    "javascript:hacked=true",
    "\" onmouseover='hacked = true' autofocus onfocus=hacked=true x=\"",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &amp;amp; <!-- --> ]]> <![CDATA[",
    "<svg onload=hacked=true>",
    "<iframe src='http://127.0.0.1/frame'></iframe><link rel=stylesheet href=http://127.0.0.1/s>",
    "\u202e turned \u2066 isolated, \u0627\u0644\u0639 \u05d0\u05d1",
    "\x00\x07\x1b[31m\x7f\x85",
    "lone \ud800 and \udfff",
    "W" * 100_000,
    "e\u0301\u0302" * 50_000,
    "",
)
