// Draws every figure of the page; colours follow the light or dark theme.
(function () {
  "use strict";
  var dark = window.matchMedia("(prefers-color-scheme: dark)");

  // "var(--ours)" anywhere in a figure becomes the colour that the style sheet gives.
  function resolved(value, styles) {
    if (typeof value === "string") {
      var match = /^var\((--[\w-]+)\)$/.exec(value);
      return match ? styles.getPropertyValue(match[1]).trim() : value;
    }
    if (Array.isArray(value)) {
      return value.map(function (item) { return resolved(item, styles); });
    }
    if (value && typeof value === "object") {
      var copy = {};
      Object.keys(value).forEach(function (key) {
        copy[key] = resolved(value[key], styles);
      });
      return copy;
    }
    return value;
  }

  function axis(given, isX) {
    var title = Object.assign(
      { standoff: isX ? 10 : 12, text: "", font: { size: 13 } }, given.title
    );
    return Object.assign({
      automargin: true, gridcolor: "var(--grid)", linecolor: "var(--grid)",
      zeroline: false, zerolinecolor: "var(--quiet)", fixedrange: true, nticks: 7,
      hoverformat: ",.5~g",
    }, given, { title: title });
  }

  function draw(card) {
    var styles = getComputedStyle(document.documentElement);
    var figure = JSON.parse(card.querySelector("script").textContent);
    var layout = Object.assign({
      font: { family: styles.fontFamily, size: 13, color: "var(--ink-soft)" },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 48, r: 12, t: 24, b: 44 }, showlegend: false, hovermode: "closest",
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      hoverlabel: { font: { family: styles.fontFamily, size: 13 } },
    }, figure.layout);
    layout.xaxis = axis(figure.layout.xaxis, true);
    layout.yaxis = axis(figure.layout.yaxis, false);
    if (layout.showlegend) { layout.margin = Object.assign({}, layout.margin, { t: 44 }); }
    var options = { displayModeBar: false, responsive: true, scrollZoom: false };
    Plotly.react(
      card.querySelector(".plot"),
      resolved(figure.data, styles), resolved(layout, styles), options
    );
  }

  function drawAll() {
    document.querySelectorAll("figure.card").forEach(draw);
  }
  drawAll();
  dark.addEventListener("change", drawAll);
}());
